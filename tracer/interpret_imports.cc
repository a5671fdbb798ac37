// Python's imports: which of its listings look for a module (import_watch.h).
#include <algorithm>

#include "tracer/interpreter.h"

namespace pcache::tracer {

namespace {

// Names of python's own cache, which no listing of its counts (rule 13).
std::vector<std::string> own_cache(const Execution& e) {
  if (e.compiles_python) return {};
  return {"__pycache__"};
}

// "script.py" of `python3 -B script.py x`; "" for -c, -m and standard input.
std::string script_of(const std::vector<std::string>& argv) {
  for (size_t i = 1; i < argv.size(); ++i) {
    const std::string& word = argv[i];
    if (!word.starts_with('-')) return word;
    if (word == "-") return "";
    if (word == "-W" || word == "-X" || word == "--check-hash-based-pycs") ++i;
    // -c CODE, -Bc CODE, -Im MODULE
    if (!word.starts_with("--") && word.find_first_of("cm") != std::string::npos) return "";
  }
  return "";
}

}  // namespace

void Interpreter::watch_imports(Execution& e, Process& process) {
  std::set<TreePath> directories;
  const auto add = [&](const std::string& directory) {
    const Resolved at = resolve(Tid{process.pid}, process, e.cwd, directory, true);
    if (at.err == 0 && S_ISDIR(at.st.st_mode)) directories.insert(at.path);
  };
  add(".");
  if (const std::string script = script_of(e.image.argv); !script.empty()) {
    const Resolved at = resolve(Tid{process.pid}, process, e.cwd, script, true);
    if (at.err == 0 && S_ISREG(at.st.st_mode)) directories.insert(at.path.parent());
  }
  for (const std::string& variable : e.image.env) {
    static constexpr std::string_view kName = "PYTHONPATH=";
    if (!variable.starts_with(kName)) continue;
    for (size_t begin = kName.size(); begin < variable.size();) {
      const size_t end = std::min(variable.find(':', begin), variable.size());
      if (end > begin) add(variable.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  e.imports = std::make_unique<ImportWatch>(std::move(directories));
}

void Interpreter::list_whole(Execution& e, const ImportWatch::Listings& listings) {
  for (const ImportWatch::Listing& listing : listings)
    ledger_.list(e, listing.dir, listing.err, listing.entries, own_cache(e));
}

void Interpreter::end_imports(Execution& e) {
  if (e.imports) list_whole(e, e.imports->on_end());
}

void Interpreter::import_stat(const Caller& c, const Resolved& at) {
  if (!c.e.imports) return;
  const bool directory = at.err == 0 && S_ISDIR(at.st.st_mode);
  list_whole(c.e, c.e.imports->on_stat(c.tid.value, at.path, at.err, directory));
}

void Interpreter::import_open(const Caller& c, const Resolved& at) {
  if (!c.e.imports) return;
  const bool directory = at.err == 0 && S_ISDIR(at.st.st_mode);
  list_whole(c.e, c.e.imports->on_open(c.tid.value, at.path, directory));
}

void Interpreter::import_other(const Caller& c) {
  if (c.e.imports) list_whole(c.e, c.e.imports->on_other(c.tid.value));
}

void Interpreter::import_listing(const Caller& c, const TreePath& dir) {
  ImportWatch::Listing listing{dir, 0, {}};
  struct stat st {};
  listing.err = ledger_.observer().stat(dir, &st);
  if (listing.err == 0) listing.err = ledger_.observer().list(dir, &listing.entries);
  const int64_t mtime_ns = st.st_mtim.tv_sec * 1'000'000'000LL + st.st_mtim.tv_nsec;
  ImportWatch::Listings full;
  const ImportWatch::Listing copy = listing;
  if (c.e.imports->on_list(c.tid.value, std::move(listing), mtime_ns, &full))
    ledger_.list(c.e, dir, copy.err, copy.entries, own_cache(c.e), store::kImportable);
  list_whole(c.e, full);
}

}  // namespace pcache::tracer
