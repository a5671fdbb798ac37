#include "cli/doctor.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sstream>

#include "cli/text.h"

namespace pcache::cli {
namespace {

using Level = Finding::Level;

Finding fuse_device(const Machine& machine) {
  const int error = machine.open_error("/dev/fuse");
  if (error == 0) return {"fuse", Level::kFine, "/dev/fuse can be opened", ""};
  if (error == EACCES || error == EPERM)
    return {"fuse", Level::kProblem,
            std::string("/dev/fuse cannot be opened: ") + std::strerror(error),
            "sudo chmod 0666 /dev/fuse (in a container: start it with --device /dev/fuse)"};
  return {"fuse", Level::kProblem,
          std::string("nothing can be mounted: /dev/fuse: ") + std::strerror(error),
          "sudo modprobe fuse (in a container: start it with --device /dev/fuse)"};
}

Finding fusermount(const Machine& machine) {
  if (machine.is_root()) return {"fusermount3", Level::kFine, "not needed: this is root", ""};
  const std::string path = machine.find_program("fusermount3");
  if (path.empty())
    return {"fusermount3", Level::kProblem, "there is no fusermount3, which mounts for users",
            "sudo apt install fuse3"};
  if (!machine.is_setuid_root(path))
    return {"fusermount3", Level::kProblem, path + " is not set-user-ID root",
            "sudo chmod u+s " + path};
  if (!machine.read("/etc/mtab"))
    return {"fusermount3", Level::kProblem,
            "there is no /etc/mtab, without which fusermount3 cannot unmount",
            "sudo ln -s /proc/self/mounts /etc/mtab"};
  return {"fusermount3", Level::kFine, path, ""};
}

Finding allow_other(const Machine& machine) {
  if (machine.is_root()) return {"allow_other", Level::kFine, "not needed: this is root", ""};
  std::istringstream lines(machine.read("/etc/fuse.conf").value_or(""));
  for (std::string line; std::getline(lines, line);)
    if (line.find("user_allow_other") == line.find_first_not_of(" \t") &&
        line.find("user_allow_other") != std::string::npos)
      return {"allow_other", Level::kFine, "root may enter your mounts (user_allow_other)", ""};
  return {"allow_other", Level::kNote,
          "root cannot enter your mounts: `sudo make install` fails in them",
          "echo user_allow_other | sudo tee -a /etc/fuse.conf"};
}

// 6.9 has passthrough, and lets what is being executed be seized.
bool is_new_kernel(const Machine& machine) {
  const std::string release = machine.read("/proc/sys/kernel/osrelease").value_or("");
  int major = 0, minor = 0;
  std::sscanf(release.c_str(), "%d.%d", &major, &minor);
  return major > 6 || (major == 6 && minor >= 9);
}

Finding passthrough(const Machine& machine) {
  if (!is_new_kernel(machine))
    return {"passthrough", Level::kNote,
            "the kernel is too old for passthrough (6.9): contents go through the daemon",
            "run a newer kernel"};
  if (!machine.has_capability(Machine::kSysAdmin))
    return {"passthrough", Level::kNote,
            "contents go through the daemon: passthrough needs CAP_SYS_ADMIN",
            "run pcache as root, where that is acceptable"};
  return {"passthrough", Level::kFine, "contents can go through the kernel", ""};
}

Finding ptrace(const Machine& machine) {
  const std::optional<std::string> text = machine.read("/proc/sys/kernel/yama/ptrace_scope");
  const std::string scope = text ? text->substr(0, 1) : "0";
  if (scope == "3")
    return {"ptrace", Level::kProblem, "no process may be traced (kernel.yama.ptrace_scope is 3)",
            "set kernel.yama.ptrace_scope = 1 in /etc/sysctl.d/10-ptrace.conf, and reboot"};
  if (scope == "2" && !machine.has_capability(Machine::kSysPtrace))
    return {"ptrace", Level::kProblem,
            "only root may trace processes (kernel.yama.ptrace_scope is 2)",
            "sudo sysctl kernel.yama.ptrace_scope=1"};
  return {"ptrace", Level::kFine,
          text ? "processes can be traced (kernel.yama.ptrace_scope is " + scope + ")"
               : "processes can be traced",
          ""};
}

// gdb, strace, or another pcache.
Finding tracer(const Machine& machine) {
  std::istringstream lines(machine.read("/proc/self/status").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    int pid = 0;
    if (std::sscanf(line.c_str(), "TracerPid: %d", &pid) == 1 && pid != 0)
      return {"tracer", Level::kNote,
              fmt::format("this shell is traced by process {}: what it starts cannot be traced "
                          "again",
                          pid),
              "try it in another terminal"};
  }
  return {"tracer", Level::kFine, "nobody traces this shell", ""};
}

Finding seccomp(const Machine& machine) {
  if (machine.has_user_notification())
    return {"seccomp", Level::kFine, "user notification is there", ""};
  return {"seccomp", Level::kProblem,
          "the kernel has no seccomp user notification: commands run uncached",
          "run a kernel of 5.0 or later with CONFIG_SECCOMP_FILTER (in a container: allow the "
          "seccomp system call)"};
}

// The probe source that needs no stops; the daemon has tried it.
Finding ebpf(const Machine& machine, const Patient& patient) {
  if (!patient.no_daemon.empty())
    return {"ebpf", Level::kNote, "not tried: there is no daemon to load it", ""};
  const std::string source = patient.daemon.value("probe_source", "seccomp");
  if (source == "ebpf") return {"ebpf", Level::kFine, "look-ups are seen without stops", ""};
  const bool unwanted = source.find("setting") != std::string::npos;
  const bool privileged = machine.has_capability(Machine::kBpf) || machine.is_root();
  return {"ebpf", Level::kNote, "cold runs are slower: look-ups are seen through " + source,
          unwanted     ? "take `probes` out of the settings"
          : privileged ? "allow bpf() (in a container: --cap-add BPF --cap-add PERFMON)"
                       : "run pcache as root, where that is acceptable"};
}

// Whether `pcache mount` alone is enough.
Finding seizing(const Machine& machine, const Patient& patient) {
  const std::string instead = "say `pcache run -- CMD`, or work in `pcache shell`";
  const auto note = [&](const std::string& why) {
    return Finding{"seizing", Level::kNote, "a mount alone caches nothing: " + why, instead};
  };
  if (!machine.has_capability(Machine::kSysAdmin)) return note("that needs root");
  if (!is_new_kernel(machine)) return note("that needs Linux 6.9 or later");
  if (patient.no_daemon.empty() && patient.daemon.value("probe_source", "seccomp") != "ebpf")
    return note("that needs eBPF");
  if (const std::string problem = machine.exec_events_problem(); !problem.empty())
    return note("that needs fanotify: " + problem);
  return {"seizing", Level::kFine, "commands that are started in a mount are cached", ""};
}

Finding space(const Machine& machine, const Patient& patient) {
  const Machine::Space space = machine.space(patient.dir);
  const std::string dir = printable(patient.dir);
  if (space.error != 0)
    return {"space", Level::kProblem,
            "the disk of " + dir + " cannot be asked: " + std::strerror(space.error),
            "set PCACHE_DIR to a directory of yours"};
  const double percent =
      space.total == 0 ? 0
                       : 100 * static_cast<double>(space.free) / static_cast<double>(space.total);
  const std::string text =
      fmt::format("{} ({:.0f} %) are free for {}", format_bytes(space.free), percent, dir);
  if (percent < patient.min_free)
    return {"space", Level::kProblem,
            text + fmt::format(", and {:g} % are to stay free (min_free): nothing is recorded",
                               patient.min_free),
            "pcache gc --max-size 1G, or free some of the disk"};
  return {"space", Level::kFine, text, ""};
}

Finding settings(const Patient& patient) {
  const size_t wrong = patient.wrong_settings.size();
  if (wrong == 0) return {"settings", Level::kFine, "every line of them is understood", ""};
  return {"settings", Level::kNote,
          printable(patient.wrong_settings.front()) +
              (wrong > 1 ? fmt::format(" (and {} more)", wrong - 1) : ""),
          "mend it; `pcache config` shows what is in force"};
}

Finding daemon(const Patient& patient) {
  if (!patient.no_daemon.empty())
    return {"daemon", Level::kProblem, patient.no_daemon, "mend what it says, then try again"};
  const std::string version = patient.daemon.value("version", "");
  const int pid = patient.daemon.value("pid", 0);
  if (version != PCACHE_VERSION)
    return {"daemon", Level::kProblem,
            fmt::format("the running daemon (pid {}) is version {}, this is {}", pid, version,
                        PCACHE_VERSION),
            "pcache umount --all"};
  return {"daemon", Level::kFine, fmt::format("version {} (pid {})", version, pid), ""};
}

Finding store(const Patient& patient) {
  if (!patient.no_daemon.empty())
    return {"store", Level::kNote, "not looked at: there is no daemon to open it", ""};
  const std::string problem = patient.daemon.value("store_problem", "");
  if (problem.empty())
    return {"store", Level::kFine, printable(patient.daemon.value("store", "")), ""};
  const bool full = problem.find("No space") != std::string::npos;
  const bool denied = problem.find("ermission") != std::string::npos ||
                      problem.find("Read-only") != std::string::npos;
  const bool locked = problem.find("lock") != std::string::npos;
  return {"store", Level::kProblem, "it cannot be used: " + problem,
          full     ? "free some of the disk"
          : denied ? "chown -R $USER " + patient.dir + ", or set PCACHE_DIR to a directory of yours"
          : locked ? "end the other daemon that has it open (`pcache umount --all`)"
                   : "pcache clear (it forgets every record)"};
}

}  // namespace

const char* level_name(Level level) {
  return level == Level::kFine ? "ok" : level == Level::kNote ? "note" : "problem";
}

std::vector<Finding> examine(const Machine& machine, const Patient& patient) {
  std::vector<Finding> found = {
      fuse_device(machine),    fusermount(machine),    allow_other(machine),
      passthrough(machine),    ptrace(machine),        tracer(machine),
      seccomp(machine),        ebpf(machine, patient), seizing(machine, patient),
      space(machine, patient), settings(patient),      daemon(patient),
      store(patient)};
  for (const std::string& dir : machine.dead_mounts())
    found.push_back({"dead-mount", Level::kProblem,
                     printable(dir) + " is mounted, and its daemon is gone",
                     "pcache umount " + command_text({dir}, 4096)});
  return found;
}

}  // namespace pcache::cli
