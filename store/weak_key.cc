#include "store/weak_key.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "store/environment.h"
#include "store/secrets.h"

namespace pcache::store {

namespace {

constexpr size_t kShortText = 200;  // longer parts are kept as a hash

// Whether `root` stands in `text` as a whole path or the beginning of one: "-I/r/include" and
// "/r:/usr" for the root /r, but not "/root2".
bool names_root(std::string_view text, std::string_view root) {
  if (root.size() < 2) return false;
  for (size_t at = text.find(root); at != std::string_view::npos; at = text.find(root, at + 1)) {
    const size_t end = at + root.size();
    if (end == text.size()) return true;
    const char next = text[end];
    const bool same_name = std::isalnum(static_cast<unsigned char>(next)) ||
                           std::string_view("._-+~@%").find(next) != std::string_view::npos;
    if (!same_name) return true;
  }
  return false;
}

std::string short_or_hash(const std::string& text) {
  return text.size() <= kShortText ? text : "hash " + hash_bytes(text).hex();
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) {
    if (!out.empty()) out += ' ';
    out += word;
  }
  return out;
}

const char* shape_name(StreamShape shape) {
  switch (shape) {
    case StreamShape::kClosed:
      return "closed";
    case StreamShape::kNull:
      return "/dev/null";
    case StreamShape::kOther:
      return "open";
  }
  return "open";
}

// Hashes each part and keeps it for explain.
class Parts {
 public:
  void add(std::string name, std::string value) {
    hasher_.add(name).add(value);
    parts_.emplace_back(std::move(name), short_or_hash(value));
  }
  void add(std::string name, uint64_t value) { add(std::move(name), std::to_string(value)); }
  void add(std::string name, const Digest& value) { add(std::move(name), value.hex()); }
  // `shown` is kept instead of the value.
  void add_hidden(std::string name, const std::string& value, std::string shown) {
    hasher_.add(name).add(value);
    parts_.emplace_back(std::move(name), std::move(shown));
  }
  Digest digest() const { return hasher_.finish(); }
  Store::KeyParts take() { return std::move(parts_); }

 private:
  Hasher hasher_;
  Store::KeyParts parts_;
};

void add_files(const ImageInfo& image, Parts* parts) {
  parts->add("executable", image.executable_path.text);
  parts->add("executable content", image.executable_hash);
  parts->add("interpreter", image.interpreter.text);
  parts->add("interpreter content", image.interpreter_hash);
  parts->add("script", image.script.text);
  parts->add("script content", image.script_hash);
}

void add_process(const ImageInfo& image, Parts* parts) {
  if (image.pid_namespace) parts->add("process ids", "in a namespace of their own");
  parts->add("umask", image.umask);
  parts->add("uid", image.uid);
  parts->add("gid", image.gid);
  std::vector<uint32_t> groups = image.groups;
  std::sort(groups.begin(), groups.end());
  std::string text;
  for (const uint32_t group : groups) text += std::to_string(group) + " ";
  parts->add("groups", text);
  parts->add("capabilities", image.capabilities);
  parts->add("ignored signals", image.ignored_signals);
  parts->add("kernel release", image.kernel_release);
  parts->add("host name", image.node_name);
  parts->add("processor features", image.cpu_flags_hash);
  parts->add("resource limits", image.limits);
  const Reader reader = reader_of(image);
  const std::string name = image_name(image.executable);
  if (reader == Reader::kShell || reader == Reader::kInterpreter || name == "nice" ||
      name == "renice")
    parts->add("niceness", image.niceness);
  static constexpr const char* kStreams[] = {"stdin", "stdout", "stderr"};
  // What stdin is counts when it is used; make gives its children a closed pipe or its own, by
  // chance.
  parts->add(kStreams[0], image.shape[0] == StreamShape::kClosed ? "closed" : "open");
  for (int i = 1; i < 3; ++i) parts->add(kStreams[i], shape_name(image.shape[i]));
}

}  // namespace

bool looks_secret(std::string_view name) {
  std::string upper(name);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (const std::string_view word :
       {"TOKEN", "SECRET", "PASSW", "CREDENTIAL", "APIKEY", "API_KEY", "PRIVATE", "AUTH", "_KEY"}) {
    if (upper.find(word) != std::string::npos) return true;
  }
  return false;
}

std::vector<std::string> normalized_argv(const ImageInfo& image) {
  if (reader_of(image) != Reader::kMake) return image.argv;
  std::vector<std::string> out;
  bool wants_number = false, takes_next = false, options = true;
  for (size_t i = 0; i < image.argv.size(); ++i) {
    std::string word = image.argv[i];
    if (i == 0 || !options || takes_next) {
      takes_next = false;
      out.push_back(std::move(word));
      continue;
    }
    if (wants_number && all_digits(word)) {
      wants_number = false;
      continue;
    }
    if (word == "--") options = false;
    wants_number = word == "--jobs";
    if (is_jobs_option(word)) continue;
    bool number = false;
    if (without_jobs(&word, &number, &takes_next)) {
      wants_number = number;
      continue;
    }
    wants_number = number;
    out.push_back(std::move(word));
  }
  return out;
}

std::vector<std::string> normalized_env(const ImageInfo& image) {
  const Reader reader = reader_of(image);
  std::vector<std::string> out;
  out.reserve(image.env.size());
  for (const std::string& variable : image.env) {
    const bool mentioned = reader == Reader::kShell && is_mentioned(image, name_of(variable));
    if (std::optional<std::string> kept = normalized_variable(variable, reader, image, mentioned)) {
      out.push_back(std::move(*kept));
    }
  }
  // Who prints or iterates over the environment sees its order; to others it cannot matter (of two
  // equal names the first is what getenv finds).
  if (reader == Reader::kPrinter || reader == Reader::kInterpreter) return out;
  std::stable_sort(out.begin(), out.end(), [](const std::string& a, const std::string& b) {
    return name_of(a) < name_of(b);
  });
  return out;
}

WeakKey make_weak_key(const ImageInfo& image, const std::string& root) {
  const std::vector<std::string> argv = normalized_argv(image);
  const std::vector<std::string> env = normalized_env(image);
  const TreePath cwd = TreePath::from_absolute(image.cwd, root);
  WeakKey key;
  const auto bind = [&](const std::string& reason) {
    if (key.root_bound) return;
    key.root_bound = true;
    key.root_reason = reason;
  };

  Hasher command;
  command.add("command").add(image.executable_path.text).add(cwd.text);
  Hasher argv_hash;
  argv_hash.add(static_cast<uint64_t>(argv.size()));
  command.add(static_cast<uint64_t>(argv.size()));
  for (const std::string& arg : argv) {
    argv_hash.add(arg);
    command.add(arg);
    if (names_root(arg, root)) bind("the argument " + short_or_hash(arg) + " names the root");
  }
  key.command = command.finish();

  Parts parts;
  add_files(image, &parts);
  parts.add_hidden("argv", argv_hash.finish().hex(), short_or_hash(joined(argv)));
  parts.add("cwd", cwd.text);
  for (const std::string& variable : env) {
    const std::string name(name_of(variable));
    std::string value(value_of(variable));
    if (names_root(value, root)) {
      bind("the variable " + name + " names the root");
    }
    // "NAME" without "=" is not "NAME=".
    const std::string whole = variable.find('=') == std::string::npos ? variable : "=" + value;
    parts.add_hidden("env " + name, whole,
                     looks_secret(name) ? "hash " + hash_bytes(value).hex() : short_or_hash(value));
  }
  if (cwd.in_root() && may_show_cwd(image, reader_of(image)))
    bind(image_name(image.executable) + " may show its working directory");
  add_process(image, &parts);
  // Records made by other lists mean something else.
  for (const auto& [name, words] : image.lists->meaning) parts.add("setting " + name, words);
  key.digest = parts.digest();
  key.parts = parts.take();
  return key;
}

}  // namespace pcache::store
