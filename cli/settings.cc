#include "cli/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "cli/text.h"

namespace pcache::cli {
namespace {

using Words = std::vector<std::string>;

std::string trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0)
    text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0)
    text.remove_suffix(1);
  return std::string(text);
}

Words split(std::string_view text) {
  Words words;
  std::string word;
  for (const char c : text) {
    if (std::isspace(static_cast<unsigned char>(c)) == 0) {
      word += c;
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  if (!word.empty()) words.push_back(std::move(word));
  return words;
}

std::string joined(const Words& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

// "~/x" at its beginning or behind a colon.
std::string with_home(std::string text, const Settings::Environment& environment) {
  const size_t colon = text.find(":~/");
  const size_t at = text.starts_with("~/") ? 0 : colon == std::string::npos ? colon : colon + 1;
  if (at == std::string::npos) return text;
  const char* home = environment("HOME");
  if (home == nullptr || home[0] != '/') return text;
  return text.replace(at, 1, home);
}

std::optional<bool> parse_flag(const std::string& text) {
  for (const char* yes : {"yes", "true", "on", "1"})
    if (text == yes) return true;
  for (const char* no : {"no", "false", "off", "0"})
    if (text == no) return false;
  return std::nullopt;
}

std::optional<double> parse_number(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0' || !(value >= 0)) return std::nullopt;
  return value;
}

const store::NameList& built_in_list(std::string_view name) {
  const store::Lists& lists = store::Lists::defaults();
  static const store::NameList none;
  if (name == "mtime_ignored") return lists.mtime_ignored;
  if (name == "mtime_matters") return lists.mtime_matters;
  if (name == "overwrites_blindly") return lists.overwrites_blindly;
  if (name == "never") return lists.never;
  if (name == "records_mtimes") return lists.records_mtimes;
  if (name == "session_variables") return lists.session_variables;
  if (name == "seize") return lists.seize;
  return none;
}

// Why a word cannot stand in a list; "": it can.
std::string wrong_word(std::string_view name, const std::string& word) {
  if (name == "private_dirs" && !store::parse_private_dir(word))
    return "\"" + printable(word) + "\" is not of the form PROGRAM:/absolute/directory";
  // A pattern is looked for in the text of scripts by how it begins.
  if (name == "session_variables" && word.find_first_of("*?[") == 0)
    return "\"" + printable(word) + "\" must begin with a letter";
  return "";
}

// Why `text` is no value of `row`; "": it is one.
std::string wrong_value(const SettingRow& row, const std::string& text) {
  const std::string quoted = "\"" + printable(text) + "\"";
  switch (row.type) {
    case SettingType::kFlag:
      return parse_flag(text) ? "" : quoted + " is neither yes nor no";
    case SettingType::kSize:
      return parse_bytes(text) ? "" : quoted + " is no size, such as 20G or 500M";
    case SettingType::kPercent: {
      const auto percent = parse_number(text);
      return percent && *percent < 100 ? "" : quoted + " is no percentage, 0 to 99";
    }
    case SettingType::kSeconds: {
      const auto seconds = parse_number(text);
      return seconds && *seconds < 1e9 ? "" : quoted + " is no number of seconds";
    }
    case SettingType::kChoice: {
      const Words& choices = row.choices;
      if (std::find(choices.begin(), choices.end(), text) != choices.end()) return "";
      return quoted + " is none of " + joined(choices);
    }
    case SettingType::kPath:
      return text.empty() || text[0] == '/' ? "" : quoted + " is not an absolute path";
    case SettingType::kNames:
      for (const std::string& word : split(text))
        if (std::string wrong = wrong_word(row.name, word); !wrong.empty()) return wrong;
      return "";
  }
  return "";
}

const SettingRow* find_row(std::string_view name) {
  for (const SettingRow& row : setting_rows())
    if (name == row.name) return &row;
  return nullptr;
}

// Edits (one letter put in, left out, changed) between two short words.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row[b.size()];
}

std::string unknown_setting(const std::string& name) {
  const SettingRow* nearest = nullptr;
  size_t best = 4;
  for (const SettingRow& row : setting_rows())
    if (const size_t edits = distance(name, row.name); edits < best) {
      best = edits;
      nearest = &row;
    }
  const std::string hint = nearest != nullptr ? fmt::format(" (did you mean {}?)", nearest->name)
                                              : std::string(" (`pcache config` lists them all)");
  return "unknown setting " + printable(name) + hint;
}

}  // namespace

std::string SettingRow::variable() const {
  std::string out = "PCACHE_";
  for (const char* c = name; *c != '\0'; ++c)
    out += static_cast<char>(std::toupper(static_cast<unsigned char>(*c)));
  return out;
}

const std::vector<SettingRow>& setting_rows() {
  using enum SettingType;
  static const std::vector<SettingRow> rows = {
      {"max_size", kSize, true, "20G", "what the store may take; 0: no limit"},
      {"min_free", kPercent, true, "5", "percent of the store's disk that stay free"},
      {"idle_s", kSeconds, true, "10", "seconds without mounts and commands until the daemon ends"},
      {"probes",
       kChoice,
       true,
       "auto",
       "seccomp: do not use eBPF even where it can be loaded",
       {"auto", "seccomp"}},
      {"log_level", kChoice, true, "info",
       "what the daemon's log holds: error, warning, info, debug", log_levels()},
      {"log_file", kPath, true, "", "the daemon's log; built in: daemon.log in PCACHE_DIR"},
      {"quiet", kFlag, false, "no", "no summary line after a run"},
      {"read_only", kFlag, false, "no", "hit, but record nothing"},
      {"passthrough", kFlag, false, "yes",
       "contents go through the kernel where that is permitted"},
      {"seizing", kFlag, false, "yes",
       "`pcache mount` alone caches what is started in the mount, where that is permitted"},
      {"cache_failures", kFlag, false, "no", "commands that fail are recorded and hit too"},
      {"strict_clock", kFlag, false, "no", "what reads the clock is not recorded"},
      {"never", kNames, false, "", "programs that always run, and so does what contains them"},
      {"records_mtimes", kNames, false, "",
       "programs that log their outputs' times: not skipped as a whole"},
      {"mtime_ignored", kNames, false, "",
       "programs to which a file's time says nothing (compilers)"},
      {"mtime_matters", kNames, false, "",
       "programs that keep the times of what they open (tar, cp)"},
      {"overwrites_blindly", kNames, false, "",
       "programs that do not care what was at their outputs' place"},
      {"session_variables", kNames, false, "",
       "variables of the terminal and login: not part of a key"},
      {"seize", kNames, false, "",
       "programs that are cached when they are started in a mount, without `pcache run`"},
      {"private_dirs", kNames, false, "", "PROGRAM:DIR: its own cache, neither input nor output"},
  };
  return rows;
}

const Words& log_levels() {
  static const Words levels = {"error", "warning", "info", "debug"};
  return levels;
}

Settings::Settings() {
  for (const SettingRow& row : setting_rows()) {
    Value& value = values_[row.name];
    value.origin = "built-in";
    value.text = row.built_in;
    if (row.type == SettingType::kNames) value.words = built_in_list(row.name).words();
  }
}

Settings Settings::read(const std::string& cache_dir, const std::string& root) {
  return read(cache_dir, root, [](const std::string& name) { return std::getenv(name.c_str()); });
}

Settings Settings::read(const std::string& cache_dir, const std::string& root,
                        const Environment& environment) {
  Settings settings;
  settings.environment_ = environment;
  settings.read_file(cache_dir + "/pcache.conf", /*project=*/false);
  if (!root.empty()) settings.read_file(root + "/.pcache.conf", /*project=*/true);
  for (const SettingRow& row : setting_rows()) {
    const char* text = environment(row.variable());
    if (text == nullptr || *text == '\0') continue;
    char operation = '=';
    std::string_view rest = text;
    if (rest.starts_with("+=") || rest.starts_with("-=")) {
      operation = rest[0];
      rest.remove_prefix(2);
    }
    settings.assign(row, operation, trimmed(rest), row.variable());
  }
  return settings;
}

void Settings::read_file(const std::string& path, bool project) {
  errno = 0;
  std::ifstream file(path);
  if (!file) {
    if (errno != ENOENT && errno != ENOTDIR)
      problems_.push_back(printable(path) + ": cannot be read: " + std::strerror(errno));
    return;
  }
  std::string line;
  for (size_t number = 1; std::getline(file, line); ++number) {
    const std::string origin = fmt::format("{}:{}", printable(path), number);
    if (const size_t comment = line.find('#');
        comment != std::string::npos &&
        (comment == 0 || std::isspace(static_cast<unsigned char>(line[comment - 1])) != 0))
      line.erase(comment);
    if (trimmed(line).empty()) continue;
    const size_t equals = line.find('=');
    if (equals == std::string::npos) {
      problems_.push_back(origin + ": not of the form NAME = VALUE: the line is left out");
      continue;
    }
    const bool operates = equals > 0 && (line[equals - 1] == '+' || line[equals - 1] == '-');
    const char operation = operates ? line[equals - 1] : '=';
    const std::string name =
        trimmed(std::string_view(line).substr(0, operates ? equals - 1 : equals));
    const SettingRow* row = find_row(name);
    if (row == nullptr) {
      problems_.push_back(origin + ": " + unknown_setting(name) + ": the line is left out");
    } else if (project && row->daemon) {
      problems_.push_back(fmt::format(
          "{}: {} is the daemon's, not a project's: set it in pcache.conf in PCACHE_DIR", origin,
          name));
    } else {
      assign(*row, operation, trimmed(std::string_view(line).substr(equals + 1)), origin);
    }
  }
}

void Settings::assign(const SettingRow& row, char operation, const std::string& text,
                      const std::string& origin) {
  Value& value = values_[row.name];
  const bool is_list = row.type == SettingType::kNames;
  if (operation != '=' && !is_list) {
    problems_.push_back(
        fmt::format("{}: {} is no list: say {} = VALUE", origin, row.name, row.name));
    return;
  }
  std::string expanded = text;
  Words words;
  if (is_list)
    for (const std::string& word : split(text)) words.push_back(with_home(word, environment_));
  if (is_list) expanded = joined(words);
  if (row.type == SettingType::kPath) expanded = with_home(text, environment_);
  if (const std::string wrong = wrong_value(row, expanded); !wrong.empty()) {
    problems_.push_back(fmt::format("{}: {}: {}: the line is left out", origin, row.name, wrong));
    return;
  }
  if (!is_list) {
    value = {expanded, {}, origin};
    return;
  }
  if (operation == '=') {
    value.words.clear();
    value.origin = origin;
  } else {
    value.origin += ", " + origin;
  }
  for (std::string& word : words) {
    const auto known = std::find(value.words.begin(), value.words.end(), word);
    if (operation == '-' && known != value.words.end()) value.words.erase(known);
    if (operation != '-' && known == value.words.end()) value.words.push_back(std::move(word));
  }
}

void Settings::set(const std::string& name, const std::string& text, const std::string& origin) {
  values_[name] = {text, {}, origin};
}

const Settings::Value& Settings::value(std::string_view name) const {
  return values_.find(name)->second;
}

bool Settings::flag(std::string_view name) const { return parse_flag(text(name)).value_or(false); }

uint64_t Settings::size(std::string_view name) const { return parse_bytes(text(name)).value_or(0); }

double Settings::number(std::string_view name) const {
  return parse_number(text(name)).value_or(0);
}

Json Settings::json(const SettingRow& row) const {
  switch (row.type) {
    case SettingType::kFlag:
      return flag(row.name);
    case SettingType::kSize:
      return size(row.name);
    case SettingType::kPercent:
    case SettingType::kSeconds:
      return number(row.name);
    case SettingType::kNames:
      return value(row.name).words;
    case SettingType::kChoice:
    case SettingType::kPath:
      break;
  }
  return text(row.name);
}

Json Settings::to_request() const {
  Json out = Json::object();
  for (const SettingRow& row : setting_rows())
    if (!row.daemon && value(row.name).origin != "built-in") out[row.name] = json(row);
  return out;
}

std::shared_ptr<const store::Lists> lists_of(const Json& settings) {
  auto lists = std::make_shared<store::Lists>(store::Lists::defaults());
  const auto words_of = [&](const char* name, auto&& use) {
    const auto found = settings.find(name);
    if (found == settings.end() || !found->is_array()) return;
    Words words;
    for (const Json& word : *found)
      if (word.is_string()) words.push_back(word.get<std::string>());
    use(std::move(words));
  };
  const auto take = [&](const char* name, store::NameList* list) {
    words_of(name, [&](Words words) { *list = store::NameList(std::move(words)); });
  };
  if (!settings.is_object()) return lists;
  take("mtime_ignored", &lists->mtime_ignored);
  take("mtime_matters", &lists->mtime_matters);
  take("overwrites_blindly", &lists->overwrites_blindly);
  take("never", &lists->never);
  take("records_mtimes", &lists->records_mtimes);
  take("session_variables", &lists->session_variables);
  take("seize", &lists->seize);
  words_of("private_dirs", [&](const Words& words) {
    lists->private_dirs.clear();
    for (const std::string& word : words)
      if (auto dir = store::parse_private_dir(word)) lists->private_dirs.push_back(*dir);
  });
  if (const auto strict = settings.find("strict_clock");
      strict != settings.end() && strict->is_boolean())
    lists->strict_clock = strict->get<bool>();
  lists->seal();
  return lists;
}

}  // namespace pcache::cli
