// What is left alone when it is started in a mount.
#include <gtest/gtest.h>

#include "tracer/is_command.h"

namespace pcache::tracer {
namespace {

TEST(IsCommand, WhoIsAboutToBeTypedIntoIsNot) {
  EXPECT_TRUE(is_interactive("bash", {"bash"}, true));
  EXPECT_TRUE(is_interactive("bash", {"-bash"}, true));
  EXPECT_TRUE(is_interactive("zsh", {"zsh", "-l"}, true));
  EXPECT_TRUE(is_interactive("bash", {"bash", "-i", "-c", "true"}, false));
  EXPECT_TRUE(is_interactive("zsh", {"zsh", "-f", "-o", "no_zle", "-i"}, true));
  EXPECT_TRUE(is_interactive("zsh", {"zsh", "-f", "+o", "zle"}, true));
  EXPECT_TRUE(is_interactive("bash", {"bash", "--rcfile", "setup", "-O", "extglob"}, true));
  EXPECT_TRUE(is_interactive("bash", {"bash", "-e"}, true));
  EXPECT_TRUE(is_interactive("python", {"python3"}, true));
  EXPECT_TRUE(is_interactive("python", {"python3", "-i", "x.py"}, true));
}

TEST(IsCommand, ScriptsAndWordsAre) {
  EXPECT_FALSE(is_interactive("dash", {"sh", "-c", "make"}, true));
  EXPECT_FALSE(is_interactive("dash", {"sh", "-ec", "make"}, true));
  EXPECT_FALSE(is_interactive("bash", {"bash", "build.sh"}, true));
  EXPECT_FALSE(is_interactive("bash", {"bash", "--norc", "-eo", "pipefail", "build.sh"}, true));
  EXPECT_FALSE(is_interactive("bash", {"bash", "-o", "pipefail", "-c", "make"}, true));
  EXPECT_FALSE(is_interactive("python", {"python3", "-m", "build"}, true));
  EXPECT_FALSE(is_interactive("perl", {"perl", "-ne", "print"}, true));
  EXPECT_FALSE(is_interactive("bash", {"bash"}, false));  // a script comes in by stdin
  EXPECT_FALSE(is_interactive("make", {"make"}, true));
  EXPECT_FALSE(is_interactive("gcc", {"gcc", "-i"}, true));
}

}  // namespace
}  // namespace pcache::tracer
