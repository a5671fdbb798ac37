#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "cli/suggest.h"
#include "cli/views/census.h"
#include "cli/views/graph_page.h"
#include "cli/views/line_diff.h"
#include "cli/views/overview.h"
#include "cli/views/reasons.h"
#include "cli/views/select.h"
#include "cli/views/top.h"
#include "cli/views/trace_text.h"

namespace pcache::cli {
namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

std::set<std::string> codes_of_table() {
  std::set<std::string> codes;
  for (const ReasonRow& row : reason_rows()) codes.insert(std::string(row.code));
  return codes;
}

std::string shown(const std::vector<DiffLine>& lines) {
  std::string out;
  for (const DiffLine& line : lines) out += line.sign + line.text + "\n";
  return out;
}

TEST(LineDiff, ShowsWhatChangedWithOneLineAround) {
  const auto diff = line_diff("a\nb\nc\nd\ne\n", "a\nb\nX\nd\ne\n", 20);
  ASSERT_TRUE(diff);
  EXPECT_EQ(shown(*diff), "@line 2\n b\n-c\n+X\n d\n");
}

TEST(LineDiff, AdditionsRemovalsAndEnds) {
  EXPECT_EQ(shown(*line_diff("", "a\nb", 20)), "@line 1\n+a\n+b\n");
  EXPECT_EQ(shown(*line_diff("a\nb\n", "", 20)), "@line 1\n-a\n-b\n");
  EXPECT_EQ(shown(*line_diff("a\n", "a\nb\n", 20)), "@line 1\n a\n+b\n");
  EXPECT_TRUE(line_diff("same\n", "same\n", 20)->empty());
}

// Whatever the two texts are, the script makes the one of the other.
TEST(LineDiff, ItsStepsLeadFromOneToTheOther) {
  unsigned state = 7;
  const auto next = [&] { return state = state * 1103515245 + 12345, (state >> 16) % 4; };
  for (int round = 0; round < 300; ++round) {
    std::string a, b;
    for (unsigned i = 0, n = next() * 3; i < n; ++i)
      a += static_cast<char>('a' + next()), a += '\n';
    for (unsigned i = 0, n = next() * 3; i < n; ++i)
      b += static_cast<char>('a' + next()), b += '\n';
    const auto diff = line_diff(a, b, 1000);
    ASSERT_TRUE(diff);
    size_t removed = 0, added = 0;
    for (const DiffLine& line : *diff) removed += line.sign == '-', added += line.sign == '+';
    const auto lines = [](const std::string& text) { return text.size() / 2; };
    EXPECT_EQ(lines(a) - removed, lines(b) - added) << a << "---\n" << b;
    EXPECT_EQ(diff->empty(), a == b);
  }
}

TEST(LineDiff, IsCutAndGivesUpOnWhatHasNothingInCommon) {
  std::string a, b;
  for (int i = 0; i < 100; ++i)
    a += "a" + std::to_string(i) + "\n", b += "b" + std::to_string(i) + "\n";
  const auto diff = line_diff(a, b, 10);
  ASSERT_TRUE(diff);
  EXPECT_EQ(diff->size(), 10u);
  EXPECT_EQ(diff->back().text, "and 192 more lines");
  for (int i = 0; i < 300; ++i)
    a += "x" + std::to_string(i) + "\n", b += "y" + std::to_string(i) + "\n";
  EXPECT_FALSE(line_diff(a, b, 10));
}

TEST(Reasons, AreThoseOfTheManual) {
  const std::string manual = text_of(SOURCES "/docs/cli.md");
  const size_t begin = manual.find("### Reason codes");
  ASSERT_NE(begin, std::string::npos);
  std::set<std::string> listed;
  std::istringstream lines(manual.substr(begin));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `")) continue;
    const std::string cell = line.substr(0, line.find(" | ", 2));
    const std::regex code("`([a-z-]+)`");
    for (std::sregex_iterator it(cell.begin(), cell.end(), code), end; it != end; ++it)
      listed.insert((*it)[1]);
  }
  EXPECT_EQ(listed, codes_of_table());
}

// Every code that the sources refuse or miss with.
TEST(Reasons, KnowEveryCodeOfTheSources) {
  const std::set<std::string> known = codes_of_table();
  const std::regex patterns[] = {std::regex("refuse[a-z_]*\\([^;\"]*\"([a-z]+(-[a-z]+)*)\""),
                                 std::regex("writing_failed\\([^;\"]*\"([a-z]+(-[a-z]+)*)\""),
                                 std::regex("Reason\\{\"([a-z]+(-[a-z]+)*)\""),
                                 std::regex("(?:return|push_back\\() ?\\{\"([a-z]+-[a-z]+)\""),
                                 std::regex("kRefused, [^\"\n]*\"([a-z]+(-[a-z]+)*)\"")};
  size_t found = 0;
  for (const char* part : {"store", "tracer"})
    for (const auto& file :
         std::filesystem::directory_iterator(std::string(SOURCES) + "/" + part)) {
      if (file.path().extension() != ".cc") continue;
      const std::string text = text_of(file.path());
      for (const std::regex& pattern : patterns)
        for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it) {
          ++found;
          EXPECT_TRUE(known.contains((*it)[1])) << (*it)[1] << " in " << file.path();
        }
    }
  EXPECT_GT(found, 60u);
}

Json execution(uint64_t id, std::vector<std::string> argv, const char* outcome) {
  return {{"id", id},           {"argv", argv}, {"cwd", "/p"},
          {"outcome", outcome}, {"record", ""}, {"reasons", Json::array()}};
}

std::vector<uint64_t> ids(const Json& executions) {
  std::vector<uint64_t> out;
  for (const Json& e : executions) out.push_back(e.value("id", uint64_t{0}));
  return out;
}

TEST(Overview, TellsWhatThereIsToKnowInShort) {
  const auto execution = [](int id, int parent, const char* program, const char* outcome,
                            bool recorded, Json reasons) {
    return Json{{"id", id},           {"parent", parent},     {"argv", {program, "x"}},
                {"outcome", outcome}, {"recorded", recorded}, {"reasons", std::move(reasons)}};
  };
  const auto reason = [](const char* code, const std::string& path, const char* detail) {
    return Json{{"code", code}, {"path", path}, {"detail", detail}};
  };
  const Json is_new = Json::array({reason("no-record", "", "")});
  Json touched = Json::array();
  for (const char* name : {"a", "b", "c", "d"})
    touched.push_back(reason("mtime-changed", name, "later"));
  Json changed = Json::array({reason("content-changed", "e", "")});
  changed[0]["diff"] = Json::array({{{"sign", "+"}, {"text", "more"}}});
  touched.push_back(changed[0]);
  Json all = Json::array({execution(1, 0, "make", "uncacheable", false, touched),
                          execution(2, 1, "/usr/bin/gcc", "miss", true, changed),
                          execution(3, 2, "collect2", "uncacheable", false, changed),
                          execution(4, 3, "ld", "uncacheable", false, changed),
                          execution(5, 1, "date", "uncacheable", false, changed)});
  for (int id = 6; id < 10; ++id) all.push_back(execution(id, 1, "cp", "miss", true, is_new));
  Json three = Json::array({all[5], all[6], all[7]});
  EXPECT_EQ(listed(take_covered(&all)), "collect2, ld");  // date is in nothing that is recorded
  EXPECT_EQ(listed(take_new(&all)), "4 cp");
  EXPECT_EQ(all.size(), 3U);
  EXPECT_TRUE(take_new(&three).empty());
  EXPECT_TRUE(shorten_reasons(&all));
  EXPECT_EQ(all[0]["reasons"].size(), 2U);
  EXPECT_EQ(all[0]["reasons"][0]["path"], "a");
  EXPECT_EQ(all[0]["reasons"][0]["and"], 3);
  EXPECT_TRUE(all[0]["reasons"][1].contains("diff"));
  EXPECT_FALSE(all[1]["reasons"][0].contains("diff"));  // shown already
  EXPECT_FALSE(shorten_reasons(&three));
}

TEST(Overview, ManyForTheSameReasonsAreOne) {
  Json all = Json::array();
  const auto add = [&](int id, const char* program, const char* path) {
    all.push_back({{"id", id},
                   {"argv", {program, std::to_string(id)}},
                   {"outcome", "miss"},
                   {"reasons", {{{"code", "content-changed"}, {"path", path}, {"detail", ""}}}}});
  };
  for (int id = 1; id <= 5; ++id) add(id, id % 2 == 0 ? "/usr/bin/gcc" : "gcc", "config.h");
  add(6, "gcc", "other.h");
  add(7, "ld", "config.h");
  EXPECT_TRUE(merge_alike(&all));
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0]["id"], 1);
  EXPECT_EQ(all[0]["alike"], 4);
  EXPECT_EQ(all[1]["id"], 6);
  EXPECT_FALSE(all[1].contains("alike"));
  EXPECT_FALSE(merge_alike(&all));
}

TEST(Text, LinesAreBrokenAtTheTerminalsWidth) {
  const std::vector<std::vector<std::string>> rows = {
      {"name", "a few words that are too many for it"}, {"\033[31mred\033[0m", "x"}};
  EXPECT_EQ(aligned(rows, "  "),
            "  name  a few words that are too many for it\n  \033[31mred\033[0m   x\n");
  EXPECT_EQ(aligned(rows, "  ", 34),
            "  name  a few words that are too\n        many for it\n  \033[31mred\033[0m   x\n");
  // No room beside it: below, from the margin.
  EXPECT_EQ(aligned({{"a long name", "some words"}}, "", 20), "a long name\n    some words\n");
  EXPECT_EQ(aligned({{}, {"", "y"}}, " ", 40), "\n   y\n");
}

TEST(Select, ByNumberCommandPathAndText) {
  Json made = execution(3, {"cc", "-c", "b.c"}, "hit");
  made["record"] = "00ff";
  Json reads = execution(2, {"cc", "-c", "a.c"}, "miss");
  reads["reasons"] = {{{"code", "content-changed"}, {"path", "include/x.h"}}};
  const Json report = {{"executions", {execution(1, {"make"}, "miss"), reads, made}}};
  EXPECT_EQ(ids(select_executions(report, {})), (std::vector<uint64_t>{1, 2}));
  EXPECT_EQ(ids(select_executions(report, {.text = "3"})), (std::vector<uint64_t>{3}));
  EXPECT_EQ(ids(select_executions(report, {.command = {"/usr/bin/cc", "-c", "b.c"}})),
            (std::vector<uint64_t>{3}));
  EXPECT_EQ(ids(select_executions(report, {.text = "./include/x.h", .path = "include/x.h"})),
            (std::vector<uint64_t>{2}));
  EXPECT_EQ(ids(select_executions(report, {.text = "b.o", .path = "b.o", .maker = "00ff"})),
            (std::vector<uint64_t>{3}));
  EXPECT_EQ(ids(select_executions(report, {.text = "a.c"})), (std::vector<uint64_t>{2}));
  EXPECT_TRUE(select_executions(report, {.text = "nothing"}).empty());
}

TEST(Select, TheNearestCommandIsOneThatIsGone) {
  const Json before = {{"executions",
                        {execution(1, {"cc", "-O2", "-c", "a.c"}, "miss"),
                         execution(2, {"cc", "-O2", "-c", "b.c"}, "miss")}}};
  const Json changed = execution(1, {"cc", "-O3", "-c", "a.c"}, "miss");
  const Json now = {{"executions", {changed, execution(2, {"cc", "-O2", "-c", "b.c"}, "hit")}}};
  const NearCommand near = nearest_command(changed, before, now);
  EXPECT_EQ(near.argv, (std::vector<std::string>{"cc", "-O2", "-c", "a.c"}));
  EXPECT_EQ(near.removed, std::vector<std::string>{"-O2"});
  EXPECT_EQ(near.added, std::vector<std::string>{"-O3"});
  EXPECT_TRUE(nearest_command(execution(1, {"ls"}, "miss"), before, now).argv.empty());
}

Json call(int tid, const char* what, const char* path, int64_t result) {
  return {{"t", 1},       {"tid", tid},   {"ev", "call"},    {"name", what},
          {"what", what}, {"path", path}, {"result", result}};
}
Json open_call(int tid, const char* path, int64_t result, uint64_t flags, bool existed = true) {
  Json event = call(tid, "open", path, result);
  event["flags"] = flags;
  event["existed"] = existed;
  return event;
}

// sh (10) runs cc (11), which writes a.o; sh reads it and writes it again; a thread and a fork.
std::vector<Json> small_workload() {
  const auto exec = [](int tid, int id, int parent, const char* path) -> Json {
    return {{"t", 1}, {"tid", tid}, {"ev", "exec"}, {"id", id}, {"parent", parent}, {"path", path}};
  };
  const auto fork = [](int tid, int child, bool thread) -> Json {
    return {{"t", 1}, {"tid", tid}, {"ev", "fork"}, {"child", child}, {"thread", thread}};
  };
  const auto exit = [](int tid, int status, int cpu, bool thread) -> Json {
    return {{"t", 1},           {"tid", tid},    {"ev", "exit"},
            {"status", status}, {"cpu_us", cpu}, {"thread", thread}};
  };
  Json at = call(11, "stat", "/p/x.h", 0);
  at["at"] = true;
  return {exec(10, 1, 0, "/bin/sh"),
          fork(10, 11, false),
          exec(11, 2, 1, "/usr/bin/cc"),
          fork(11, 12, true),
          at,
          call(11, "stat", "/p/none.h", -2),
          open_call(12, "/p/a.o", 3, O_WRONLY | O_CREAT | O_TRUNC, false),
          call(12, "write", "/p/a.o", 100),
          exit(12, 0, 0, true),
          exit(11, 0, 700, false),
          fork(10, 13, false),
          open_call(13, "/p/a.o", 3, O_RDONLY),
          call(13, "read", "/p/a.o", 40),
          open_call(13, "/p/a.o", 3, O_WRONLY),
          exit(13, 1, 50, false),
          exit(10, 0, 1000, false)};
}

TEST(Census, CountsASmallWorkload) {
  Census census;
  for (const Json& event : small_workload()) census.add(event);
  const Json all = census.json();
  EXPECT_EQ(all["executions"], 2);
  EXPECT_EQ(all["depth"], 2);
  EXPECT_EQ(all["processes"], 3);
  EXPECT_EQ(all["processes_without_exec"], 1);
  EXPECT_EQ(all["threads"], 1);
  EXPECT_EQ(all["failed_exits"], 1);
  EXPECT_EQ(all["look_ups"]["calls"], 5);
  EXPECT_EQ(all["look_ups"]["failed"], 1);
  EXPECT_EQ(all["at_calls_with_dirfd"], 1);
  EXPECT_EQ(all["created"], 1);
  EXPECT_EQ(all["opens"]["write, create, truncate"], 1);
  EXPECT_EQ(all["stat_only_paths"], Json::array({"/p/x.h"}));
  EXPECT_EQ(all["children_outputs_read_by_parent"], Json::array({"/p/a.o"}));
  EXPECT_EQ(all["written_by_more_than_one"], Json::array({"/p/a.o"}));
  EXPECT_EQ(all["bytes_read"], 40);
  EXPECT_EQ(all["bytes_written"], 100);
  EXPECT_EQ(all["programs"][0]["program"], "cc");  // 700; sh has 1000 - 700 - 50, and its fork's 50
  EXPECT_DOUBLE_EQ(all["programs"][1]["cpu_s"], 300e-6);
  EXPECT_NE(census.table(Painter(-1)).find("depth 2"), std::string::npos);
}

TEST(TraceLog, TellsSuccessesAndWithAllEverything) {
  TraceLog some(false), all(true);
  size_t told = 0, told_of_all = 0;
  for (const Json& event : small_workload()) {
    told += some.wants(event);
    told_of_all += all.wants(event);
    EXPECT_FALSE(TraceLog::line(event).empty());
  }
  EXPECT_EQ(told_of_all, small_workload().size());
  EXPECT_EQ(told, small_workload().size() - 2);  // two looks
  const Json failed = call(11, "stat", "/p/none.h", -2);
  EXPECT_TRUE(TraceLog::line(failed).ends_with("stat      /p/none.h  ENOENT"));
  EXPECT_TRUE(TraceLog::line(open_call(1, "/p/new", 3, O_WRONLY | O_CREAT, false))
                  .ends_with("creates   /p/new  write,create"));
  EXPECT_TRUE(some.wants(call(9, "read", "/p/b", 1)));
  EXPECT_FALSE(some.wants(call(9, "read", "/p/b", 1)));
}

TEST(GraphPage, CannotBeLeftByACommandLine) {
  Json report = {{"command", {"sh"}}, {"executions", Json::array()}};
  report["executions"].push_back(
      execution(1, {"sh", "-c", "</script><script>alert(1)</script><!-- @PAGE_JS@"}, "miss"));
  const std::string page = graph_html(report, 7);
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_EQ(page.find("@PAGE_DATA@"), std::string::npos);
  EXPECT_EQ(page.find("@PAGE_CSS@"), std::string::npos);
  EXPECT_NE(page.find("const report = data.report"), std::string::npos);
  EXPECT_EQ(page.find("http://www.w3.org/2000/svg"), page.rfind("http"));  // nothing is fetched
}

TEST(GraphDot, QuotesLabels) {
  Json report = {{"executions", Json::array()}};
  Json child = execution(2, {"echo", "a\"b\\"}, "hit");
  child["parent"] = 1;
  report["executions"] = {execution(1, {"sh"}, "miss"), child};
  const std::string dot = graph_dot(report);
  EXPECT_NE(dot.find("e1 -> e2"), std::string::npos);
  EXPECT_NE(dot.find("a\\\"b\\\\"), std::string::npos);
}

// --- suggestions ---

TEST(Suggest, CountsLettersAndExchanges) {
  EXPECT_EQ(edit_distance("explain", "explain"), 0u);
  EXPECT_EQ(edit_distance("exlpain", "explain"), 1u);
  EXPECT_EQ(edit_distance("", "run"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(Suggest, NamesWhatIsNearAndNothingElse) {
  const std::vector<std::string> known = {"mount", "umount",  "run",   "shell", "status",
                                          "stats", "explain", "trace", "gc",    "config"};
  EXPECT_EQ(nearest("exlpain", known), std::vector<std::string>{"explain"});
  EXPECT_EQ(nearest("mnt", known), std::vector<std::string>{"mount"});
  EXPECT_EQ(nearest("cfg", known), std::vector<std::string>{"config"});
  EXPECT_EQ(nearest("cg", known), std::vector<std::string>{"gc"});
  EXPECT_EQ(nearest("statu", known), (std::vector<std::string>{"status", "stats"}));
  for (const char* far : {"make", "git", "ccache", "nonsense", "x", ""})
    EXPECT_TRUE(nearest(far, known).empty()) << far;
  EXPECT_EQ(any_of_them({"a", "b", "c"}), "a, b or c");
}

// --- top ---

Json session_at_work() {
  Json running = Json::array();
  for (int i = 0; i < 20; ++i) {
    running.push_back(
        {{"id", i + 1},
         {"pid", 100 + i},
         {"argv", {"cc", "-c", "file" + std::to_string(i) + ".c", std::string(300, 'x')}},
         {"running_s", 0.5 + i},
         {"served", i == 3},
         {"working", i != 0}});
  }
  return {
      {"running", true},
      {"sessions",
       {{{"pid", 99},
         {"root", "/project"},
         {"command", {"make", "-j2", std::string(300, 'y')}},
         {"wall_s", 12.0},
         {"executions", 60},
         {"hits", 1},
         {"misses", 40},
         {"uncacheable", 2},
         {"saved_s", 4.1},
         {"bytes_served", 3 << 20},
         {"running", running}}}},
      {"mounts", {{{"dir", "/project"}, {"served_pending", 2}, {"served_bytes_pending", 4096}}}}};
}

TEST(Top, FitsTheScreen) {
  const Painter plain(-1);
  for (const size_t width : {40u, 80u, 200u}) {
    for (const size_t height : {8u, 12u, 24u, 60u}) {
      const std::string text = top_text(session_at_work(), {width, height}, plain);
      EXPECT_LE(static_cast<size_t>(std::count(text.begin(), text.end(), '\n')), height);
      std::istringstream lines(text);
      for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), width) << line;
    }
  }
}

TEST(Top, TellsWhatRunsAndWhatIsServed) {
  const std::string text = top_text(session_at_work(), {80, 0}, Painter(-1));
  EXPECT_NE(text.find("make -j2"), std::string::npos);
  EXPECT_NE(text.find("1 hit   40 misses   2 not cacheable"), std::string::npos) << text;
  EXPECT_NE(text.find("served 3.0 MiB   2 files being written out (4.0 KiB)"), std::string::npos)
      << text;
  EXPECT_NE(text.find("served: cc -c file3.c"), std::string::npos) << text;
  EXPECT_EQ(text.find("file0.c"), std::string::npos) << "it waits for others: " << text;
  EXPECT_LT(text.find("file19.c"), text.find("file1.c")) << "the longest first";
  const std::string short_text = top_text(session_at_work(), {80, 12}, Painter(-1));
  EXPECT_NE(short_text.find(" more\n"), std::string::npos) << short_text;
}

TEST(Top, SaysThatNothingRuns) {
  const Json idle = {{"running", true}, {"sessions", Json::array()}, {"mounts", Json::array()}};
  EXPECT_EQ(top_text(idle, {80, 0}, Painter(-1)), "No command runs under pcache now.\n");
  const Json none = {{"running", false}, {"sessions", Json::array()}, {"mounts", Json::array()}};
  EXPECT_EQ(top_text(none, {80, 0}, Painter(-1)), "No daemon runs, so no command does.\n");
}

TEST(Top, RatesAreOfTheLastSeconds) {
  Rates rates;
  const auto at = [&](double now_s, double wall_s, uint64_t executions) {
    Json state = session_at_work();
    state["sessions"][0]["wall_s"] = wall_s;
    state["sessions"][0]["executions"] = executions;
    rates.add_to(state, now_s);
    return state["sessions"][0]["rate"].get<double>();
  };
  EXPECT_DOUBLE_EQ(at(100, 10, 50), 5);  // since it began
  EXPECT_DOUBLE_EQ(at(105, 15, 150), 20);
  EXPECT_DOUBLE_EQ(at(109, 19, 160), 110 / 9.0);
  EXPECT_DOUBLE_EQ(at(115, 25, 160), 1);
  EXPECT_DOUBLE_EQ(at(121, 31, 160), 0);
}

}  // namespace
}  // namespace pcache::cli
