#include <gtest/gtest.h>

#include <map>

#include "store/environment.h"
#include "store/weak_key.h"

namespace pcache::store {
namespace {

ImageInfo image(const std::string& executable, std::vector<std::string> argv,
                std::vector<std::string> env = {}) {
  ImageInfo info;
  info.executable = executable;
  info.executable_path = {executable};
  info.executable_hash = {1, 1};
  info.argv = std::move(argv);
  info.env = std::move(env);
  info.cwd = "/home/x/p/src";
  return info;
}

constexpr char kRoot[] = "/home/x/p";

Digest key_of(const ImageInfo& info) { return make_weak_key(info, kRoot).digest; }

using Words = std::vector<std::string>;

TEST(ImageName, LeavesVersionsAndTargetsOut) {
  EXPECT_EQ(image_name("/usr/bin/gcc-12"), "gcc");
  EXPECT_EQ(image_name("/usr/bin/x86_64-linux-gnu-gcc-12"), "gcc");
  EXPECT_EQ(image_name("/usr/bin/x86_64-linux-gnu-g++-12"), "g++");
  EXPECT_EQ(image_name("/usr/bin/x86_64-linux-gnu-ld.bfd"), "ld.bfd");
  EXPECT_EQ(image_name("/usr/bin/arm-none-eabi-gcc"), "gcc");
  EXPECT_EQ(image_name("/usr/bin/python3.11"), "python");
  EXPECT_EQ(image_name("/usr/bin/perl5.36.0"), "perl");
  EXPECT_EQ(image_name("/usr/bin/lua5.4"), "lua");
  EXPECT_EQ(image_name("/usr/bin/clang++-14"), "clang++");
  EXPECT_EQ(image_name("/usr/bin/gawk"), "gawk");
  EXPECT_EQ(image_name("/usr/bin/base64"), "base64");
  EXPECT_EQ(image_name("/usr/lib/gcc/x86_64-linux-gnu/12/cc1"), "cc1");
  EXPECT_EQ(image_name("/usr/bin/7z"), "7z");
  EXPECT_EQ(image_name("/x/a.out"), "a.out");
}

TEST(ImageName, TheListsGoByIt) {
  const Lists& lists = Lists::defaults();
  const auto listed = [](const NameList& list, const char* program) {
    return is_listed(list, image(program, {program}));
  };
  EXPECT_TRUE(listed(lists.mtime_ignored, "/usr/lib/cc1plus"));
  EXPECT_FALSE(listed(lists.mtime_ignored, "/usr/bin/make"));
  EXPECT_TRUE(listed(lists.mtime_matters, "/bin/tar"));
  EXPECT_FALSE(listed(lists.mtime_matters, "/usr/bin/make"));
  EXPECT_TRUE(listed(lists.overwrites_blindly, "/usr/bin/x86_64-linux-gnu-as"));
  EXPECT_FALSE(listed(lists.overwrites_blindly, "/bin/cp"));
  EXPECT_TRUE(ignores_cwd("gcc"));
  EXPECT_TRUE(listed(lists.never, "/bin/date"));
  EXPECT_TRUE(listed(lists.records_mtimes, "/usr/bin/ninja"));
  EXPECT_TRUE(is_shell("dash"));
  EXPECT_FALSE(is_shell("env"));
}

TEST(WeakKey, MakesJobsDoNotMatter) {
  const std::string make = "/usr/bin/make";
  const Words plain = {"make", "-k", "all"};
  for (const Words& argv :
       {Words{"make", "-j8", "-k", "all"}, Words{"make", "-k", "-j", "8", "all"},
        Words{"make", "-kj8", "all"}, Words{"make", "-k", "--jobs=3", "all"},
        Words{"make", "-k", "--jobs", "3", "all"}, Words{"make", "-k", "-j", "all"},
        Words{"make", "--jobserver-auth=3,4", "-k", "all"}}) {
    EXPECT_EQ(normalized_argv(image(make, argv)), plain) << argv[1];
  }
}

TEST(WeakKey, OtherArgumentsOfMakeStay) {
  const std::string make = "/usr/bin/make";
  for (const Words& argv :
       {Words{"make", "-C", "-j8"}, Words{"make", "-Ij8"}, Words{"make", "-f", "-j8", "x"},
        Words{"make", "--", "-j8"}, Words{"make", "8"}, Words{"make", "-lj"}, Words{"-j8", "x"}}) {
    EXPECT_EQ(normalized_argv(image(make, argv)), argv) << argv[1];
  }
  const Words other = {"tool", "-j8"};
  EXPECT_EQ(normalized_argv(image("/usr/bin/tool", other)), other);
}

TEST(WeakKey, MakeflagsLoseTheJobserver) {
  const auto flags = [](const std::string& value) {
    return normalized_env(image("/usr/bin/gcc-12", {"gcc"}, {"MAKEFLAGS=" + value})).at(0);
  };
  EXPECT_EQ(flags(""), "MAKEFLAGS=");
  EXPECT_EQ(flags(" -j4 --jobserver-auth=3,4"), "MAKEFLAGS=");
  EXPECT_EQ(flags("k -j4 --jobserver-auth=fifo:/tmp/GMfifo1"), "MAKEFLAGS=k");
  EXPECT_EQ(flags("w -j"), "MAKEFLAGS=w");
  EXPECT_EQ(flags("s --no-print-directory"), "MAKEFLAGS=s --no-print-directory");
  EXPECT_EQ(flags(" -j4 --jobserver-auth=3,4 -- X=-j5  y"), "MAKEFLAGS=-- X=-j5  y");
}

TEST(WeakKey, AShellThatNamesAVariableKeepsIt) {
  for (const char* variable : {"SHLVL=2", "MAKELEVEL=1", "COLUMNS=80", "MAKEFLAGS=-j4"}) {
    const std::string name = std::string(variable).substr(0, std::string(variable).find('='));
    const std::vector<std::string> argv = {"sh", "-c", "echo $" + name};
    EXPECT_NE(key_of(image("/usr/bin/dash", argv, {variable})),
              key_of(image("/usr/bin/dash", argv, {std::string(variable) + "7"})))
        << variable;
  }
}

struct EnvironmentRow {
  const char* variable;
  bool compiler, shell, make, python, printer;  // whether it counts
};

TEST(WeakKey, EnvironmentTable) {
  const EnvironmentRow rows[] = {
      {"CFLAGS=-O2", true, true, true, true, true},
      {"PATH=/bin", true, true, true, true, true},
      {"MAKE_TERMOUT=/dev/pts/1", false, false, false, false, true},
      {"MAKELEVEL=2", false, false, true, true, true},
      {"PWD=/elsewhere", true, true, true, true, true},
      {"PWD=/home/x/p/src", false, true, false, true, true},
      {"_=/usr/bin/make", false, false, false, true, true},
      {"SHLVL=2", false, false, false, true, true},
      {"OLDPWD=/home/x", false, false, false, true, true},
      {"COLUMNS=80", false, false, false, true, true},
      {"SSH_AUTH_SOCK=/tmp/s", false, false, false, true, true},
      {"DISPLAY=:0", false, false, false, true, true},
      {"PCACHE_DIR=/x", false, false, false, false, false},
  };
  const auto counts = [](const char* executable, const char* variable) {
    return key_of(image(executable, {"x"}, {variable})) != key_of(image(executable, {"x"}));
  };
  for (const EnvironmentRow& row : rows) {
    EXPECT_EQ(counts("/usr/bin/gcc-12", row.variable), row.compiler) << row.variable;
    EXPECT_EQ(counts("/usr/bin/dash", row.variable), row.shell) << row.variable;
    EXPECT_EQ(counts("/usr/bin/make", row.variable), row.make) << row.variable;
    EXPECT_EQ(counts("/usr/bin/python3.11", row.variable), row.python) << row.variable;
    EXPECT_EQ(counts("/usr/bin/env", row.variable), row.printer) << row.variable;
  }
}

TEST(WeakKey, OrderOfTheEnvironmentDoesNotMatterButDuplicatesDo) {
  const auto key = [](Words env) { return key_of(image("/bin/x", {"x"}, std::move(env))); };
  EXPECT_EQ(key({"A=1", "B=2"}), key({"B=2", "A=1"}));
  EXPECT_NE(key({"A=1", "A=2"}), key({"A=2", "A=1"}));
  EXPECT_NE(key({"A=1", "A=1"}), key({"A=1"}));
  EXPECT_NE(key({"A="}), key({"A"}));
  EXPECT_NE(key({"A=1"}), key({"A=2"}));
}

TEST(WeakKey, EachPartOfTheProcessCounts) {
  const ImageInfo base = image("/bin/x", {"x", "y"}, {"A=1"});
  std::vector<ImageInfo> others(17, base);
  others[0].executable_path = {"/bin/y"};
  others[1].executable_hash = {2, 2};
  others[2].interpreter = {"/lib/ld.so"};
  others[3].interpreter_hash = {3, 3};
  others[4].script = {"s"};
  others[5].script_hash = {4, 4};
  others[6].argv = {"x", "y", ""};
  others[7].argv = {"z", "y"};
  others[8].cwd = "/home/x/p";
  others[9].umask = 077;
  others[10].uid = 1;
  others[11].groups = {5};
  others[12].capabilities = 1;
  others[13].ignored_signals = 1;
  others[14].kernel_release = "9";
  others[15].cpu_flags_hash = "f";
  others[16].shape[1] = StreamShape::kNull;
  for (size_t i = 0; i < others.size(); ++i) EXPECT_NE(key_of(others[i]), key_of(base)) << i;
  ImageInfo words = base;
  words.argv = {"x y"};
  EXPECT_NE(key_of(words), key_of(base));
}

TEST(WeakKey, AnotherCheckoutHasTheSameKey) {
  ImageInfo here = image("/home/x/p/tool", {"./tool"}, {"PWD=/home/x/p/src", "OLDPWD=/home/x/p"});
  here.executable_path = {"tool"};
  ImageInfo there = here;
  there.executable = "/srv/q/tool";
  there.cwd = "/srv/q/src";
  there.env = {"PWD=/srv/q/src", "OLDPWD=/srv/q"};
  const WeakKey a = make_weak_key(here, "/home/x/p"), b = make_weak_key(there, "/srv/q");
  EXPECT_EQ(a.digest, b.digest);
  EXPECT_EQ(a.command, b.command);
  EXPECT_FALSE(a.root_bound);

  here.executable = there.executable = "/usr/bin/dash";
  EXPECT_EQ(make_weak_key(here, "/home/x/p").digest, make_weak_key(there, "/srv/q").digest);
  EXPECT_FALSE(make_weak_key(here, "/home/x/p").root_bound);
}

TEST(WeakKey, NamingTheRootBindsToIt) {
  const auto bound = [](Words argv, Words env) {
    return make_weak_key(image("/bin/x", std::move(argv), std::move(env)), kRoot).root_bound;
  };
  EXPECT_TRUE(bound({"x", "/home/x/p"}, {}));
  EXPECT_TRUE(bound({"x", "-I/home/x/p/include"}, {}));
  EXPECT_TRUE(bound({"x", "--map=/home/x/p=."}, {}));
  EXPECT_TRUE(bound({"x"}, {"PATH=/home/x/p/bin:/bin"}));
  EXPECT_FALSE(bound({"x", "/home/x/p2/a"}, {}));
  EXPECT_FALSE(bound({"x", "/home/x"}, {}));
  EXPECT_FALSE(bound({"x"}, {"PWD=/home/x/p/src", "OLDPWD=/home/x/p", "PCACHE_ROOT=/home/x/p"}));
  EXPECT_NE(make_weak_key(image("/bin/x", {"x", "/home/x/p/a"}), kRoot).root_reason, "");
}

TEST(WeakKey, PartsNameWhatWentInAndHideSecrets) {
  const WeakKey key =
      make_weak_key(image("/bin/x", {"x", "y"},
                          {"CFLAGS=-O2", "GITHUB_TOKEN=abc", "LONG=" + std::string(500, 'x')}),
                    kRoot);
  std::map<std::string, std::string> parts(key.parts.begin(), key.parts.end());
  EXPECT_EQ(parts["argv"], "x y");
  EXPECT_EQ(parts["cwd"], "src");
  EXPECT_EQ(parts["env CFLAGS"], "-O2");
  EXPECT_EQ(parts["env GITHUB_TOKEN"].find("abc"), std::string::npos);
  EXPECT_LT(parts["env LONG"].size(), 100u);
}

// awk reads the environment where its text says so, or where its text is not known.
TEST(Reader, AnAwkWithoutEnvironIsLikeOtherPrograms) {
  const auto reader = [](Words argv) { return reader_of(image("/usr/bin/mawk", std::move(argv))); };
  for (const Words& argv : {Words{"awk", "{print $1}", "in"}, Words{"awk", "-F:", "-v", "a=1", "1"},
                            Words{"awk", "--", "{print}"}})
    EXPECT_EQ(reader(argv), Reader::kOther) << argv.back();
  for (const Words& argv :
       {Words{"awk", "BEGIN{print ENVIRON[\"X\"]}"}, Words{"awk", "-f", "x.awk"},
        Words{"awk", "-fx"}, Words{"awk", "--file=x"}, Words{"awk", "BEGIN{print SYMTAB[x]}"},
        Words{"awk", "@include \"x\""}, Words{"awk", "-e", "1"}, Words{"awk"}})
    EXPECT_EQ(reader(argv), Reader::kInterpreter) << argv.back();
  EXPECT_EQ(reader_of(image("/usr/bin/python3.11", {"python3", "x"})), Reader::kInterpreter);
}

}  // namespace
}  // namespace pcache::store
