// Settings: one table of everything that can be set, and where each value came from.
//
// Read in this order, the later winning: the built-in value, PCACHE_DIR/pcache.conf, .pcache.conf
// in the project's root, PCACHE_NAME in the environment, options. Lines of the files:
//
//   # a comment
//   max_size = 40G
//   never += make-build-id        adds to a list; -= takes out, = replaces
//
// A line that is not understood is one problem, which names its file and line, and is left out:
// nothing here ever keeps a command from running.
//
// What concerns the daemon is read once, when it starts. What concerns a project is read by each
// `pcache run` and travels with its session (to_request), since one daemon serves many projects.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cli/wire.h"
#include "store/lists.h"

namespace pcache::cli {

enum class SettingType : uint8_t { kFlag, kSize, kPercent, kSeconds, kChoice, kPath, kNames };

struct SettingRow {
  const char* name;  // "max_size": PCACHE_MAX_SIZE in the environment
  SettingType type;
  bool daemon;           // of the daemon; else of a project's runs
  const char* built_in;  // lists: store::Lists::defaults()
  const char* help;
  std::vector<std::string> choices = {};  // kChoice

  std::string variable() const;
};

const std::vector<SettingRow>& setting_rows();
const std::vector<std::string>& log_levels();

class Settings {
 public:
  using Environment = std::function<const char*(const std::string&)>;
  struct Value {
    std::string text;                // as it was written
    std::vector<std::string> words;  // kNames
    std::string origin;              // "built-in", "/x/pcache.conf:3", "PCACHE_QUIET", "--quiet"
  };

  // The built-in values.
  Settings();
  // `root`: of the project; "": there is none.
  static Settings read(const std::string& cache_dir, const std::string& root,
                       const Environment& environment);
  static Settings read(const std::string& cache_dir, const std::string& root);

  // From an option; its value has been checked.
  void set(const std::string& name, const std::string& text, const std::string& origin);

  const Value& value(std::string_view name) const;
  bool flag(std::string_view name) const;
  uint64_t size(std::string_view name) const;
  double number(std::string_view name) const;  // kPercent, kSeconds
  const std::string& text(std::string_view name) const { return value(name).text; }
  Json json(const SettingRow& row) const;  // the value with its type

  // What could not be used, each one line: "/x/pcache.conf:3: unknown setting nevr…".
  const std::vector<std::string>& problems() const { return problems_; }

  // The project's settings that are not the built-in ones.
  Json to_request() const;

 private:
  void read_file(const std::string& path, bool project);
  void assign(const SettingRow& row, char operation, const std::string& text,
              const std::string& origin);

  Environment environment_;
  std::map<std::string, Value, std::less<>> values_;
  std::vector<std::string> problems_;
};

// In the daemon: the lists of a request's settings. What is missing or of a wrong type is built in.
std::shared_ptr<const store::Lists> lists_of(const Json& settings);

}  // namespace pcache::cli
