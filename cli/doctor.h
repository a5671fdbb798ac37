// Doctor: what works on this machine and what does not, each with the command that mends it.
//
// examine() is pure: it asks a Machine, which a test can make up, and knows no paths but the
// kernel's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/wire.h"

namespace pcache::cli {

struct Finding {
  enum class Level : uint8_t { kFine, kNote, kProblem };
  std::string name;  // "fuse", "ptrace"…: stable, for programs
  Level level = Level::kFine;
  std::string text;    // what was found
  std::string remedy;  // a command, or what to do; "" where nothing is wrong
};
const char* level_name(Finding::Level level);  // "ok", "note", "problem"

class Machine {
 public:
  enum Capability : int { kSysPtrace = 19, kSysAdmin = 21, kPerfmon = 38, kBpf = 39 };
  struct Space {
    int error = 0;  // errno
    uint64_t free = 0, total = 0;
  };

  virtual ~Machine() = default;
  virtual bool is_root() const = 0;
  virtual bool has_capability(Capability capability) const = 0;
  virtual int open_error(const std::string& path) const = 0;  // reading and writing; 0: it opens
  virtual std::optional<std::string> read(const std::string& path) const = 0;
  virtual std::string find_program(const std::string& name) const = 0;  // "": it is not there
  virtual bool is_setuid_root(const std::string& path) const = 0;
  virtual bool has_user_notification() const = 0;
  virtual std::string exec_events_problem() const = 0;    // of fanotify; "": they can be had
  virtual Space space(const std::string& dir) const = 0;  // of the nearest parent that exists
  virtual std::vector<std::string> dead_mounts() const = 0;
};

// The machine itself.
class System : public Machine {
 public:
  bool is_root() const override;
  bool has_capability(Capability capability) const override;
  int open_error(const std::string& path) const override;
  std::optional<std::string> read(const std::string& path) const override;
  std::string find_program(const std::string& name) const override;
  bool is_setuid_root(const std::string& path) const override;
  bool has_user_notification() const override;
  std::string exec_events_problem() const override;
  Space space(const std::string& dir) const override;
  std::vector<std::string> dead_mounts() const override;
};

struct Patient {
  std::string dir;      // PCACHE_DIR
  double min_free = 5;  // percent
  std::vector<std::string> wrong_settings;
  std::string no_daemon;  // why none can be started; "": one runs
  Json daemon;            // its answer to `status`
};

std::vector<Finding> examine(const Machine& machine, const Patient& patient);

}  // namespace pcache::cli
