#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "cli/settings.h"

namespace pcache::cli {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

class SettingsTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/pcache-settings-XXXXXX";
    dir_ = ::mkdtemp(name);
    fs::create_directory(dir_ + "/cache");
    fs::create_directory(dir_ + "/project");
  }
  void TearDown() override { fs::remove_all(dir_); }

  void user(const std::string& text) { write("cache/pcache.conf", text); }
  void project(const std::string& text) { write("project/.pcache.conf", text); }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ + "/" + name) << text;
  }
  Settings read() {
    return Settings::read(dir_ + "/cache", dir_ + "/project", [this](const std::string& name) {
      const auto found = environment_.find(name);
      return found == environment_.end() ? nullptr : found->second.c_str();
    });
  }
  std::string problem(const Settings& settings) {
    return settings.problems().size() == 1 ? settings.problems()[0]
                                           : std::to_string(settings.problems().size());
  }

  std::string dir_;
  std::map<std::string, std::string> environment_{{"HOME", "/home/x"}};
};

TEST_F(SettingsTest, WithoutFilesAreBuiltIn) {
  const Settings settings = read();
  EXPECT_EQ(settings.size("max_size"), uint64_t{20} << 30);
  EXPECT_EQ(settings.number("min_free"), 5);
  EXPECT_EQ(settings.number("idle_s"), 10);
  EXPECT_TRUE(settings.flag("passthrough"));
  EXPECT_EQ(settings.value("never").words, store::Lists::defaults().never.words());
  EXPECT_TRUE(settings.problems().empty());
  EXPECT_TRUE(settings.to_request().empty());
}

TEST_F(SettingsTest, LaterPlacesWin) {
  user("quiet = yes\nmin_free = 7 # percent\n\n# nothing\n");
  EXPECT_EQ(read().value("quiet").origin, dir_ + "/cache/pcache.conf:1");
  EXPECT_EQ(read().number("min_free"), 7);
  project("quiet=no\n");
  EXPECT_FALSE(read().flag("quiet"));
  EXPECT_EQ(read().value("quiet").origin, dir_ + "/project/.pcache.conf:1");
  environment_["PCACHE_QUIET"] = "on";
  Settings settings = read();
  EXPECT_TRUE(settings.flag("quiet"));
  EXPECT_EQ(settings.value("quiet").origin, "PCACHE_QUIET");
  settings.set("quiet", "no", "--no-quiet");
  EXPECT_FALSE(settings.flag("quiet"));
  environment_["PCACHE_QUIET"] = "";  // as good as unset
  EXPECT_FALSE(read().flag("quiet"));
}

TEST_F(SettingsTest, ListsAddTakeOutAndReplace) {
  user("never += alpha beta\n");
  project("never -= date\nnever += gamma\n");
  const Words words = read().value("never").words;
  const auto has = [&](const char* name) {
    return std::find(words.begin(), words.end(), name) != words.end();
  };
  EXPECT_TRUE(has("alpha") && has("beta") && has("gamma") && has("sleep"));
  EXPECT_FALSE(has("date"));
  EXPECT_EQ(read().value("never").origin, "built-in, " + dir_ + "/cache/pcache.conf:1, " + dir_ +
                                              "/project/.pcache.conf:1, " + dir_ +
                                              "/project/.pcache.conf:2");
  project("never = only  these\n");
  EXPECT_EQ(read().value("never").words, (Words{"only", "these"}));
  environment_["PCACHE_NEVER"] = "+= more";
  EXPECT_EQ(read().value("never").words, (Words{"only", "these", "more"}));
  project("never =\n");
  EXPECT_EQ(read().value("never").words, (Words{"more"}));
}

TEST_F(SettingsTest, WrongLinesAreNamedAndLeftOut) {
  const std::string conf = dir_ + "/cache/pcache.conf:";
  user("nevr = a\nquiet = yes\n");
  EXPECT_EQ(problem(read()),
            conf + "1: unknown setting nevr (did you mean never?): the line is left out");
  EXPECT_TRUE(read().flag("quiet"));
  const std::map<std::string, std::string> wrong = {
      {"max_size = big", "no size"},        {"min_free = 100", "no percentage"},
      {"idle_s = soon", "no number"},       {"quiet = perhaps", "neither yes nor no"},
      {"log_level = all", "is none of"},    {"log_file = here", "not an absolute path"},
      {"private_dirs = x", "PROGRAM:"},     {"session_variables = *X", "must begin"},
      {"quiet += yes", "quiet is no list"}, {"just words", "not of the form"},
      {"zzzzzzzzzz = 1", "lists them all"}};
  for (const auto& [line, text] : wrong) {
    user("# first\n" + line + "\n");
    const std::string said = problem(read());
    EXPECT_TRUE(said.starts_with(conf + "2: ")) << said;
    EXPECT_NE(said.find(text), std::string::npos) << said;
    EXPECT_TRUE(read().to_request().empty()) << line;
  }
  user("");
  environment_["PCACHE_IDLE_S"] = "soon";
  EXPECT_NE(problem(read()).find("PCACHE_IDLE_S: idle_s: \"soon\""), std::string::npos);
  EXPECT_EQ(read().number("idle_s"), 10);
}

TEST_F(SettingsTest, AProjectCannotSetTheDaemons) {
  project("max_size = 1\nnever += x\n");
  EXPECT_NE(problem(read()).find("the daemon's, not a project's"), std::string::npos);
  EXPECT_EQ(read().size("max_size"), uint64_t{20} << 30);
  EXPECT_TRUE(read().to_request().contains("never"));
  EXPECT_FALSE(read().to_request().contains("max_size"));
}

TEST_F(SettingsTest, AnUnreadableFileIsOneProblem) {
  fs::create_directory(dir_ + "/cache/pcache.conf");
  // A directory opens and gives no lines; what cannot be opened is told.
  EXPECT_TRUE(read().problems().empty());
  fs::remove(dir_ + "/cache/pcache.conf");
  if (::geteuid() == 0) return;
  user("quiet = yes\n");
  fs::permissions(dir_ + "/cache/pcache.conf", fs::perms::none);
  EXPECT_NE(problem(read()).find("cannot be read: Permission denied"), std::string::npos);
}

TEST_F(SettingsTest, ListsTravelWithTheRequest) {
  user("never = a b*\nprivate_dirs = ccache:~/.cache/ccache/\n");
  const auto lists = lists_of(read().to_request());
  EXPECT_TRUE(lists->never.contains("a") && lists->never.contains("bcd"));
  EXPECT_FALSE(lists->never.contains("date"));
  ASSERT_EQ(lists->private_dirs.size(), 1u);
  EXPECT_EQ(lists->private_dirs[0], (store::PrivateDir{"ccache", "/home/x/.cache/ccache"}));
  EXPECT_EQ(lists->meaning.size(), 2u);
  EXPECT_TRUE(lists_of(Json::object())->meaning.empty());
  EXPECT_TRUE(lists_of(Json(3))->meaning.empty());
  EXPECT_FALSE(lists_of(Json{{"strict_clock", 3}})->strict_clock);
  EXPECT_TRUE(lists_of(Json{{"strict_clock", true}})->strict_clock);
  EXPECT_TRUE(lists_of(Json{{"never", 3}, {"mtime_matters", {1, 2}}})->never.contains("date"));
}

}  // namespace
}  // namespace pcache::cli
