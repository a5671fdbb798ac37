// What the text of a script or makefile tells of its reader: variables, its place, random numbers.
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "tracer/interpreter.h"

namespace pcache::tracer {

using store::FactKey;
using store::FactKind;
using store::FactValue;

namespace {

constexpr size_t kScriptBytes = 1 << 20, kBeginning = 512;

}  // namespace

void Interpreter::environment_read(Execution& e, const store::EnvironmentReads& reads) {
  for (Execution* a = &e; !a->is_session(); a = a->parent) {
    const store::Reader reader = store::reader_of(a->image);
    if (reads.whole && reader != store::Reader::kPrinter &&
        (reader != store::Reader::kInterpreter || reads.jobs)) {
      const FactKey key{FactKind::kEnvironment, {}, reads.jobs ? store::kWithJobs : 0, {}};
      ledger_.observe_alone(*a, key, store::environment_value(a->image, key));
    }
    for (const std::string& name : reads.names) {
      if (!store::key_leaves_out(a->image, name)) continue;
      const FactKey key{FactKind::kEnvironment, {}, 0, {name}};
      FactValue value = store::environment_value(a->image, key);
      // Set in between, by the own tree: no input of this ancestor.
      if (value != store::environment_value(e.image, key)) continue;
      ledger_.observe_alone(*a, key, std::move(value));
    }
  }
}

void Interpreter::source_read(const Caller& c, const Resolved& at) {
  const std::string& image = c.e.image_name;
  if (!store::ignores_cwd(image) || at.err != 0 || !S_ISREG(at.st.st_mode) ||
      at.path.text.starts_with("/usr/") || at.path.text.starts_with("/lib"))
    return;
  for (const std::string& variable : c.e.image.env)
    if (variable.starts_with("SOURCE_DATE_EPOCH=")) return;
  const std::optional<std::string> text = text_of(at);
  if (!text) return;
  for (const char* macro : {"__DATE__", "__TIME__", "__TIMESTAMP__"})
    if (text->find(macro) != std::string::npos)
      ledger_.refuse(c.e, "clock", at.path.text,
                     std::string(macro) + " stands in it (remedy: set SOURCE_DATE_EPOCH)", true);
}

// The beginning of a file without NUL bytes; nothing for a library, or data.
std::optional<std::string> Interpreter::text_of(const Resolved& at) const {
  UniqueFd file;
  if (ledger_.observer().open_read(at.path, &file) != 0) return std::nullopt;
  // Each shell opens libraries: a megabyte of them need not be read to see that they are no text.
  char beginning[kBeginning];
  const ssize_t first = ::pread(file.get(), beginning, sizeof beginning, 0);
  if (first > 0 && std::memchr(beginning, 0, static_cast<size_t>(first)) != nullptr)
    return std::nullopt;
  std::string text(std::min<size_t>(static_cast<size_t>(at.st.st_size), kScriptBytes), '\0');
  const ssize_t got = ::pread(file.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  if (text.find('\0') != std::string::npos) return std::nullopt;
  return text;
}

void Interpreter::script_read(const Caller& c, const Resolved& at) {
  const bool shell = store::is_shell(c.e.image_name);
  if ((!shell && store::reader_of(c.e.image) != store::Reader::kMake) || at.err != 0 ||
      !S_ISREG(at.st.st_mode))
    return;
  const std::optional<std::string> found = text_of(at);
  if (!found) return;
  const std::string& text = *found;
  environment_read(c.e, store::reads_of_text(text, *c.e.image.lists));
  if (!shell) return;
  if (store::text_shows_cwd(text))
    ledger_.bind_to_root(c.e, at.path.text + " may show its working directory");
  if (c.e.image_name != "dash" && store::text_is_random(text))
    ledger_.refuse(c.e, "random", at.path.text, "it asks for random numbers", true);
}

}  // namespace pcache::tracer
