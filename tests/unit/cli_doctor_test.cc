#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <set>

#include "cli/doctor.h"

namespace pcache::cli {
namespace {

using Level = Finding::Level;

// An ordinary user's machine where everything works; each test breaks one thing.
class FakeMachine : public Machine {
 public:
  bool is_root() const override { return root; }
  bool has_capability(Capability capability) const override {
    return root || capabilities.contains(capability);
  }
  int open_error(const std::string&) const override { return fuse; }
  std::optional<std::string> read(const std::string& path) const override {
    const auto found = files.find(path);
    return found == files.end() ? std::nullopt : std::optional(found->second);
  }
  std::string find_program(const std::string&) const override { return fusermount; }
  bool is_setuid_root(const std::string&) const override { return setuid; }
  bool has_user_notification() const override { return notification; }
  std::string exec_events_problem() const override { return fanotify; }
  Space space(const std::string&) const override { return disk; }
  std::vector<std::string> dead_mounts() const override { return dead; }

  bool root = false, setuid = true, notification = true;
  int fuse = 0;
  std::string fanotify;
  std::string fusermount = "/usr/bin/fusermount3";
  std::set<int> capabilities;
  std::map<std::string, std::string> files = {
      {"/etc/fuse.conf", "# comment\nuser_allow_other\n"},
      {"/etc/mtab", ""},
      {"/proc/sys/kernel/osrelease", "6.18.0\n"},
      {"/proc/sys/kernel/yama/ptrace_scope", "1\n"},
      {"/proc/self/status", "Name:\tpcache\nTracerPid:\t0\n"}};
  Space disk{0, 50, 100};
  std::vector<std::string> dead;
};

Patient healthy() {
  Patient patient;
  patient.dir = "/home/x/.cache/pcache";
  patient.daemon = {{"version", PCACHE_VERSION}, {"pid", 7}, {"store", "/s"}};
  return patient;
}

Finding find(const FakeMachine& machine, const std::string& name,
             const Patient& patient = healthy()) {
  for (const Finding& finding : examine(machine, patient))
    if (finding.name == name) return finding;
  return {};
}

void expect(const Finding& finding, Level level, const std::string& text,
            const std::string& remedy) {
  EXPECT_EQ(finding.level, level) << finding.text;
  EXPECT_NE(finding.text.find(text), std::string::npos) << finding.text;
  EXPECT_NE(finding.remedy.find(remedy), std::string::npos) << finding.remedy;
}

TEST(Doctor, WithoutMtabUsersCannotUnmount) {
  FakeMachine machine;
  machine.files.erase("/etc/mtab");
  expect(find(machine, "fusermount3"), Level::kProblem, "/etc/mtab", "ln -s /proc/self/mounts");
  machine.root = true;
  EXPECT_EQ(find(machine, "fusermount3").level, Level::kFine);
}

TEST(Doctor, AHealthyMachineHasNoProblem) {
  for (const Finding& finding : examine(FakeMachine(), healthy()))
    EXPECT_NE(finding.level, Level::kProblem) << finding.name << ": " << finding.text;
  FakeMachine root;
  root.root = true;
  root.fusermount = "";
  for (const Finding& finding : examine(root, healthy()))
    EXPECT_NE(finding.level, Level::kProblem) << finding.name << ": " << finding.text;
}

TEST(Doctor, WithoutTheFuseDevice) {
  FakeMachine machine;
  machine.fuse = ENOENT;
  expect(find(machine, "fuse"), Level::kProblem, "No such file", "modprobe fuse");
  machine.fuse = EACCES;
  expect(find(machine, "fuse"), Level::kProblem, "Permission denied", "chmod 0666 /dev/fuse");
}

TEST(Doctor, WithoutFusermount) {
  FakeMachine machine;
  machine.fusermount = "";
  expect(find(machine, "fusermount3"), Level::kProblem, "no fusermount3", "apt install fuse3");
  machine.fusermount = "/usr/bin/fusermount3";
  machine.setuid = false;
  expect(find(machine, "fusermount3"), Level::kProblem, "set-user-ID", "chmod u+s");
}

TEST(Doctor, RootMayNotEnter) {
  FakeMachine machine;
  machine.files["/etc/fuse.conf"] = "#user_allow_other\n";
  expect(find(machine, "allow_other"), Level::kNote, "root cannot enter", "tee -a /etc/fuse.conf");
  machine.files.erase("/etc/fuse.conf");
  expect(find(machine, "allow_other"), Level::kNote, "root cannot enter", "user_allow_other");
}

TEST(Doctor, TracingIsForbidden) {
  FakeMachine machine;
  const std::string file = "/proc/sys/kernel/yama/ptrace_scope";
  machine.files[file] = "2\n";
  expect(find(machine, "ptrace"), Level::kProblem, "is 2", "sysctl kernel.yama.ptrace_scope=1");
  machine.capabilities = {Machine::kSysPtrace};
  expect(find(machine, "ptrace"), Level::kFine, "is 2", "");
  machine.files[file] = "3\n";
  expect(find(machine, "ptrace"), Level::kProblem, "is 3", "reboot");
  machine.files.erase(file);
  expect(find(machine, "ptrace"), Level::kFine, "can be traced", "");
}

TEST(Doctor, UnderADebugger) {
  FakeMachine machine;
  machine.files["/proc/self/status"] = "Name:\tx\nTracerPid:\t812\n";
  expect(find(machine, "tracer"), Level::kNote, "process 812", "another terminal");
}

TEST(Doctor, WithoutUserNotification) {
  FakeMachine machine;
  machine.notification = false;
  expect(find(machine, "seccomp"), Level::kProblem, "no seccomp user notification", "5.0");
}

TEST(Doctor, WithoutPassthroughAndEbpf) {
  FakeMachine machine;
  expect(find(machine, "passthrough"), Level::kNote, "CAP_SYS_ADMIN", "root");
  machine.capabilities = {Machine::kSysAdmin};
  expect(find(machine, "passthrough"), Level::kFine, "through the kernel", "");
  machine.files["/proc/sys/kernel/osrelease"] = "6.1.0-18-amd64\n";
  expect(find(machine, "passthrough"), Level::kNote, "too old", "newer kernel");
  Patient patient = healthy();
  patient.daemon["probe_source"] = "seccomp (no eBPF: Operation not permitted)";
  expect(find(machine, "ebpf", patient), Level::kNote, "Operation not permitted", "as root");
  machine.root = true;
  expect(find(machine, "ebpf", patient), Level::kNote, "Operation not permitted", "--cap-add BPF");
  patient.daemon["probe_source"] = "seccomp (no eBPF: the setting probes says so)";
  expect(find(machine, "ebpf", patient), Level::kNote, "says so", "take `probes` out");
  patient.daemon["probe_source"] = "ebpf";
  expect(find(machine, "ebpf", patient), Level::kFine, "without stops", "");
}

TEST(Doctor, WhetherAMountAloneIsEnough) {
  FakeMachine machine;
  const std::string instead = "pcache run -- CMD";
  expect(find(machine, "seizing"), Level::kNote, "needs root", instead);
  machine.root = true;
  expect(find(machine, "seizing"), Level::kNote, "needs eBPF", instead);
  Patient patient = healthy();
  patient.daemon["probe_source"] = "ebpf";
  expect(find(machine, "seizing", patient), Level::kFine, "are cached", "");
  machine.fanotify = "Function not implemented";
  expect(find(machine, "seizing", patient), Level::kNote, "fanotify: Function not", instead);
  machine.files["/proc/sys/kernel/osrelease"] = "6.8.0-31-generic\n";
  expect(find(machine, "seizing", patient), Level::kNote, "Linux 6.9", instead);
}

TEST(Doctor, SettingsThatAreNotUnderstood) {
  Patient patient = healthy();
  expect(find({}, "settings", patient), Level::kFine, "understood", "");
  patient.wrong_settings = {"pcache.conf:1: unknown setting nevr", "pcache.conf:2: no", "x"};
  expect(find({}, "settings", patient), Level::kNote, "setting nevr (and 2 more)", "pcache config");
}

TEST(Doctor, TheDiskIsNearlyFull) {
  FakeMachine machine;
  machine.disk = {0, 4, 100};
  expect(find(machine, "space"), Level::kProblem, "4 %", "pcache gc");
  Patient patient = healthy();
  patient.min_free = 2;
  expect(find(machine, "space", patient), Level::kFine, "4 %", "");
  machine.disk = {EACCES, 0, 0};
  expect(find(machine, "space"), Level::kProblem, "Permission denied", "PCACHE_DIR");
}

TEST(Doctor, TheDaemonIsAnotherOrCannotStart) {
  Patient patient = healthy();
  patient.daemon["version"] = "0.0.1";
  expect(find({}, "daemon", patient), Level::kProblem, "is version 0.0.1", "pcache umount --all");
  patient = healthy();
  patient.no_daemon = "cannot start the daemon: x";
  expect(find({}, "daemon", patient), Level::kProblem, "cannot start", "mend");
  expect(find({}, "store", patient), Level::kNote, "not looked at", "");
}

TEST(Doctor, TheStoreIsUnusable) {
  Patient patient = healthy();
  for (const auto& [problem, remedy] :
       std::map<std::string, std::string>{{"it is of a newer format", "pcache clear"},
                                          {"x: Permission denied", "chown"},
                                          {"x: No space left on device", "free some"},
                                          {"While lock file: held", "end the other daemon"}}) {
    patient.daemon["store_problem"] = problem;
    expect(find({}, "store", patient), Level::kProblem, problem, remedy);
  }
}

TEST(Doctor, DeadMountsAreNamed) {
  FakeMachine machine;
  machine.dead = {"/home/x/p q"};
  expect(find(machine, "dead-mount"), Level::kProblem, "/home/x/p q",
         "pcache umount '/home/x/p q'");
}

}  // namespace
}  // namespace pcache::cli
