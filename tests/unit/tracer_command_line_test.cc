// What options say of how a program looks at files.
#include <gtest/gtest.h>

#include <iterator>
#include <sstream>

#include "tracer/command_line.h"

namespace pcache::tracer {
namespace {

using Words = std::vector<std::string>;

Words words(const std::string& line) {
  std::istringstream in(line);
  return {std::istream_iterator<std::string>(in), {}};
}

bool unpacks(const std::string& line, const Words& env = {}) {
  const Words argv = words(line);
  return only_unpacks(argv[0], argv, env);
}

TEST(CommandLine, WhatOnlyUnpacksKeepsNoTimes) {
  for (const char* line :
       {"tar -xzf a.tgz", "tar xf a.tar", "tar tvf a.tar", "tar --extract -f a", "tar -xf a -C d",
        "tar xf a --strip-components=1 b", "gzip -d", "gzip -dc a.gz", "xz -dc a b", "zstd -d -c a",
        "gzip --decompress --stdout a", "bzip2 -d -"})
    EXPECT_TRUE(unpacks(line)) << line;
}

TEST(CommandLine, WhatPacksOrNamesAFileAfterAnotherDoes) {
  for (const char* line : {"tar cf a.tar d",
                           "tar -czf a d",
                           "tar -rf a d",
                           "tar -uf a d",
                           "tar",
                           "tar -f a -x",
                           "tar xf a --keep-newer-files",
                           "tar xf a -N ./b",
                           "tar xf a -g s",
                           "tar xf a --to-command=b",
                           "tar -x --newer-mtime=1 -f a",
                           "tar xgf s a",
                           "gzip a",
                           "gzip",
                           "gzip -c a",
                           "gzip -d a.gz",
                           "gzip -dk a.gz",
                           "xz -d a.xz",
                           "gzip -l a.gz",
                           "gzip -dcN a.gz",
                           "cp -p a b",
                           "unzip a"})
    EXPECT_FALSE(unpacks(line)) << line;
  EXPECT_FALSE(unpacks("tar xf a", {"HOME=/", "TAR_OPTIONS=--newer=./b"}));
}

TEST(CommandLine, WhoLooksBeforeReplacing) {
  const auto looks = [](const std::string& line) {
    const Words argv = words(line);
    return looks_before_replacing(argv[0], argv);
  };
  EXPECT_TRUE(looks("cp a b") && looks("mv a b") && looks("ar rcu lib.a x.o"));
  EXPECT_FALSE(looks("cp -u a b") || looks("install -C a b") || looks("strip -p a") ||
               looks("mv --update a b") || looks("sh -c x"));
}

TEST(CommandLine, WhoShowsTheTimesOfDirectories) {
  const auto shows = [](const std::string& line) {
    const Words argv = words(line);
    return shows_directory_times(argv[0], argv);
  };
  EXPECT_TRUE(shows("ls -l") && shows("ls -t") && shows("tar cf a d") && shows("cp -a d e") &&
              shows("find . -newer x"));
  EXPECT_FALSE(shows("ls -di .") || shows("ls") || shows("cp d e") || shows("find . -name x"));
}

}  // namespace
}  // namespace pcache::tracer
