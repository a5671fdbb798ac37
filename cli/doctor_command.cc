// pcache doctor: what works here and what does not.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fanotify.h>
#include <linux/seccomp.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/doctor.h"
#include "cli/mountinfo.h"
#include "cli/settings.h"
#include "cli/text.h"

namespace pcache::cli {

bool System::is_root() const { return ::geteuid() == 0; }

bool System::has_capability(Capability capability) const {
  std::istringstream lines(read("/proc/self/status").value_or(""));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("CapEff:"))
      return ((std::strtoull(line.c_str() + 7, nullptr, 16) >> capability) & 1) != 0;
  return false;
}

int System::open_error(const std::string& path) const {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  return fd ? 0 : errno;
}

std::optional<std::string> System::read(const std::string& path) const {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string System::find_program(const std::string& name) const {
  for (const char* dir : {"/usr/bin/", "/bin/", "/usr/local/bin/", "/usr/sbin/", "/sbin/"})
    if (::access((dir + name).c_str(), X_OK) == 0) return dir + name;
  return "";
}

bool System::is_setuid_root(const std::string& path) const {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && st.st_uid == 0 && (st.st_mode & S_ISUID) != 0;
}

std::string System::exec_events_problem() const {
  const UniqueFd group(static_cast<int>(
      ::syscall(SYS_fanotify_init, FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC)));
  return group ? "" : std::strerror(errno);
}

bool System::has_user_notification() const {
  uint32_t action = SECCOMP_RET_USER_NOTIF;
  return ::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

Machine::Space System::space(const std::string& dir) const {
  for (std::string at = dir;; at.erase(at.rfind('/'))) {
    struct statvfs fs {};
    if (::statvfs(at.empty() ? "/" : at.c_str(), &fs) == 0)
      return {0, uint64_t{fs.f_bavail} * fs.f_frsize, uint64_t{fs.f_blocks} * fs.f_frsize};
    if (errno != ENOENT || at.empty()) return {errno, 0, 0};
  }
}

std::vector<std::string> System::dead_mounts() const {
  std::vector<std::string> dead;
  for (const MountEntry& mount : read_mounts())
    if (mount.is_pcache() && is_dead(mount.dir)) dead.push_back(mount.dir);
  return dead;
}

namespace {

// Another version answers `status` too.
void ask_daemon(const Locations& locations, Patient* patient) {
  auto connection = connect_or_start(locations);
  if (!connection) {
    patient->no_daemon = connection.error().to_string();
    return;
  }
  const auto answer = ask(connection->channel, make_request("status"));
  if (answer)
    patient->daemon = answer->body;
  else
    patient->no_daemon = answer.error().to_string();
}

void print_findings(const std::vector<Finding>& findings) {
  const Painter paint(STDOUT_FILENO);
  std::vector<std::vector<std::string>> rows;
  for (const Finding& finding : findings) {
    const Colour colour = finding.level == Finding::Level::kFine   ? Colour::kGreen
                          : finding.level == Finding::Level::kNote ? Colour::kYellow
                                                                   : Colour::kRed;
    rows.push_back({paint(colour, level_name(finding.level)), finding.name, finding.text});
    if (!finding.remedy.empty()) rows.push_back({"", "", "remedy: " + finding.remedy});
  }
  fmt::print("{}", aligned(rows, "", wrap_width(STDOUT_FILENO)));
}

}  // namespace

int doctor_command(bool json) {
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  Patient patient;
  patient.dir = locations->dir;
  const Settings settings = Settings::read(locations->dir, "");
  patient.min_free = settings.number("min_free");
  patient.wrong_settings = settings.problems();
  ask_daemon(*locations, &patient);
  const std::vector<Finding> findings = examine(System(), patient);
  const bool healthy = std::none_of(findings.begin(), findings.end(), [](const Finding& f) {
    return f.level == Finding::Level::kProblem;
  });
  if (!json) {
    print_findings(findings);
    return healthy ? 0 : 1;
  }
  Json all = Json::array();
  for (const Finding& finding : findings)
    all.push_back({{"name", finding.name},
                   {"level", level_name(finding.level)},
                   {"text", finding.text},
                   {"remedy", finding.remedy}});
  const Json out = {{"healthy", healthy}, {"findings", all}};
  fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
  return healthy ? 0 : 1;
}

}  // namespace pcache::cli
