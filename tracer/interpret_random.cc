// Random bytes: who asks for them is not recorded, but for those that are known to keep them to
// themselves.
//
//   compilers                    names of temporary files and local symbols
//   fc-cache, fc-list…           the salt of an XML parser's hash table
//   python, import multiprocessing   32 bytes: the key by which its processes know each other
//   python, import numpy.random      16 bytes: the seed of the module's own generator
//
// The last two follow the opening of the module that takes them, once; os.urandom(32) at any other
// time is refused. numpy's seed is like that of python's own `random` (docs/limits.md): whether
// numbers are drawn without another seed no call tells. So the project's sources are looked into,
// and where one speaks of drawing and of no seed, it is refused.
#include <algorithm>
#include <array>
#include <set>

#include "tracer/interpreter.h"

namespace pcache::tracer {
namespace {

constexpr uint64_t kNumpySeedBytes = 16, kMultiprocessingKeyBytes = 32, kSaltBytes = 8;

bool only_salts(const std::string& image) {
  static const std::set<std::string> kImages = {"fc-cache",   "fc-cat",   "fc-list", "fc-match",
                                                "fc-pattern", "fc-query", "fc-scan", "fc-validate"};
  return kImages.contains(image);
}

bool is_installed(const std::string& path) {
  return path.starts_with("/usr/") || path.starts_with("/lib") ||
         path.find("/site-packages/") != std::string::npos ||
         path.find("/dist-packages/") != std::string::npos;
}

bool holds_any(const std::string& text, std::initializer_list<const char*> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](const char* word) { return text.find(word) != std::string::npos; });
}

bool draws_without_seed(const std::string& text) {
  return holds_any(text, {"random", "sample(", "shuffle", "permutation", "choice", "sklearn",
                          "scipy.stats", "rvs("}) &&
         !holds_any(text, {"seed(", "RandomState(", "random_state"});
}

}  // namespace

void Interpreter::on_random(const Caller& c, const CallEvent& event) {
  using Due = PythonSeeds::Due;
  const uint64_t size = event.args[1];
  if (store::ignores_cwd(c.e.image_name)) return;
  if (only_salts(c.e.image_name) && size <= kSaltBytes) return;
  const Due due = std::exchange(c.e.seeds.due, Due::kNone);
  if (due == Due::kMultiprocessing && size == kMultiprocessingKeyBytes) return;
  if (due == Due::kNumpy && size == kNumpySeedBytes) {
    c.e.seeds.numpy = true;
    if (!c.e.seeds.draws) return;
  }
  // mktemp's names are gone or facts; its callers need not suffer.
  ledger_.refuse(c.e, "random", "", c.e.image_name + " asked for random bytes",
                 c.e.image_name != "mktemp");
}

// Before anything is read of it.
void Interpreter::python_opens(const Caller& c, const Resolved& at) {
  using Due = PythonSeeds::Due;
  const std::string& path = at.path.text;
  const auto holds = [&](const char* part) { return path.find(part) != std::string::npos; };
  if (at.err == 0 && holds("/numpy/random/_mt19937.") && path.ends_with(".so"))
    c.e.seeds.due = Due::kNumpy;
  else if (at.err == 0 && holds("/multiprocessing/__pycache__/process.") && path.ends_with(".pyc"))
    c.e.seeds.due = Due::kMultiprocessing;
  else if (c.e.seeds.due != Due::kMultiprocessing || !(path.ends_with(".pyc") || at.err != 0))
    c.e.seeds.due = Due::kNone;
  if (at.err == 0 && S_ISREG(at.st.st_mode) && !path.ends_with(".pyc")) python_source(c, at);
}

void Interpreter::python_source(const Caller& c, const Resolved& at) {
  PythonSeeds& seeds = c.e.seeds;
  const auto draw = [&](const std::string& where) {
    if (std::exchange(seeds.draws, true) || !seeds.numpy) return;
    ledger_.refuse(c.e, "random", where, "it draws numbers of numpy, and names no seed", true);
  };
  if (seeds.draws) return;
  const std::vector<std::string>& argv = c.e.image.argv;
  const bool from_stdin = argv.size() < 2 || std::find(argv.begin(), argv.end(), "-") != argv.end();
  if (from_stdin || std::any_of(argv.begin(), argv.end(), [](const std::string& word) {  // -c
        return word.find("import") != std::string::npos && draws_without_seed(word);
      }))
    return draw("");
  const std::string name = at.path.name();
  const bool script = std::any_of(argv.begin(), argv.end(),
                                  [&](const std::string& word) { return word.ends_with(name); });
  if (is_installed(at.path.text) || !(script || name.ends_with(".py"))) return;
  const std::optional<std::string> text = text_of(at);
  if (text && draws_without_seed(*text)) draw(at.path.text);
}

}  // namespace pcache::tracer
