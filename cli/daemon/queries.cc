#include "cli/daemon/queries.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "store/dated.h"
#include "store/record.h"

namespace pcache::cli {
namespace {

constexpr uint64_t kLargestBlob = 256 * 1024;
// What is looked through for dates, of one record.
constexpr size_t kDatedOutputs = 64;
constexpr uint64_t kDatedBytes = 64 * 1024;  // of each
constexpr uint64_t kDatedInAll = 1024 * 1024;
constexpr size_t kMostDated = 3;  // that are told

Json report(store::Store& store, const Message& request) {
  const std::vector<uint64_t> kept = store.runs();
  Json answer = {{"ok", true}, {"kept", kept}};
  if (kept.empty()) return answer;
  const uint64_t wanted = request.body.value("run", uint64_t{0});
  const uint64_t number = wanted == 0 ? kept.back() : wanted;
  if (auto run = store.run(number)) {
    answer["run"] = std::move(*run);
    answer["number"] = number;
  }
  return answer;
}

Json fact_json(const store::Fact& fact) {
  Json out = {{"kind", store::fact_kind_name(fact.key.kind)}, {"path", fact.key.path.text}};
  const store::FactValue& value = fact.value;
  if (value.err != 0) out["errno"] = value.err;
  if (value.mode != 0) out["mode"] = value.mode;
  if (value.size != 0) out["size"] = value.size;
  if (!value.hash.empty()) out["hash"] = value.hash.hex();
  if (!value.text.empty()) out["text"] = value.text;
  return out;
}

const char* effect_name(store::EffectKind kind) {
  static constexpr const char* kNames[] = {"",
                                           "file",
                                           "remove",
                                           "remove-directory",
                                           "make-directory",
                                           "symlink",
                                           "hard-link",
                                           "attributes",
                                           "touch",
                                           "offset",
                                           "fifo"};
  const auto index = static_cast<size_t>(kind);
  return index < std::size(kNames) ? kNames[index] : "";
}

Json record_json(const store::Record& record) {
  Json facts = Json::array(), effects = Json::array();
  for (const store::Fact& fact : record.facts) facts.push_back(fact_json(fact));
  for (const store::Effect& effect : record.effects) {
    Json out = {{"kind", effect_name(effect.kind)}, {"path", effect.path.text}};
    if (effect.kind == store::EffectKind::kFile) {
      out["size"] = effect.size;
      out["hash"] = effect.blob.empty() ? "" : effect.blob.hex();
    }
    if (!effect.text.empty()) out["text"] = effect.text;
    effects.push_back(std::move(out));
  }
  return {{"argv", record.argv},
          {"executable", record.executable},
          {"cwd", record.cwd.text},
          {"root", record.root},
          {"root_reason", record.root_reason},
          {"exit_status", record.exit_status},
          {"cpu_s", static_cast<double>(record.cpu_ns) / 1e9},
          {"wall_s", static_cast<double>(record.wall_ns) / 1e9},
          {"created_s", static_cast<double>(record.created_ns) / 1e9},
          {"executions", record.executions},
          {"facts", std::move(facts)},
          {"effects", std::move(effects)}};
}

Json record(store::Store& store, const Message& request) {
  const auto strong = store::Digest::from_hex(request.text("strong"));
  Json answer = {{"ok", true}};
  if (!strong) return answer;
  if (const auto found = store.record(*strong)) answer["record"] = record_json(**found);
  return answer;
}

Json blob(store::Store& store, const Message& request) {
  Json answer = {{"ok", true}};
  const auto digest = store::Digest::from_hex(request.text("digest"));
  if (!digest) return answer;
  struct stat st {};
  const std::string hex = digest->hex();
  const std::string path = store.dir() + "/store/blobs/" + hex.substr(0, 2) + "/" + hex;
  if (::stat(path.c_str(), &st) != 0) return answer;
  const auto size = static_cast<uint64_t>(st.st_size);
  if (size > kLargestBlob) return answer;
  const auto file = store.blobs().open(*digest, size);
  std::vector<uint8_t> bytes(size);
  if (file && ::pread(file->get(), bytes.data(), size, 0) == static_cast<ssize_t>(size))
    answer["bytes"] = Json::binary(std::move(bytes));
  return answer;
}

// The beginning of a blob; "" where it cannot be read.
std::string head_of(store::Store& store, const store::Digest& digest, uint64_t size) {
  const auto file = store.blobs().open(digest, size);
  std::string bytes(std::min(size, kDatedBytes), '\0');
  if (!file ||
      ::pread(file->get(), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return "";
  return bytes;
}

// What it wrote to standard output (1) or error (2).
std::string stream_of(const store::Record& record, const std::string& bytes, uint32_t fd) {
  std::string out;
  uint64_t offset = 0;
  for (const store::StreamSegment& segment : record.streams) {
    if (segment.fd == fd && offset < bytes.size()) out += bytes.substr(offset, segment.size);
    offset += segment.size;
  }
  return out;
}

// Outputs that tell when, or how long, their run was (store/dated.h).
Json dated(store::Store& store, const Message& request) {
  Json found = Json::array();
  const auto strong = store::Digest::from_hex(request.text("strong"));
  if (!strong) return {{"ok", true}, {"dated", found}};
  const auto stored = store.record(*strong);
  if (!stored) return {{"ok", true}, {"dated", found}};
  const store::Record& record = **stored;
  const store::RunTimes run{record.created_ns - static_cast<int64_t>(record.wall_ns),
                            record.created_ns,
                            static_cast<double>(std::max(record.wall_ns, record.cpu_ns)) / 1e9};
  const auto look = [&](const std::string& output, const std::string& text) {
    if (const auto line = store::find_dated(text, run))
      found.push_back({{"output", output},
                       {"line", line->line},
                       {"text", line->text},
                       {"tells", line->duration ? "duration" : "date"}});
  };
  uint64_t size = 0;
  for (const store::StreamSegment& segment : record.streams) size += segment.size;
  const std::string streams =
      record.stream_blob.empty() ? record.stream_bytes : head_of(store, record.stream_blob, size);
  look("standard output", stream_of(record, streams, 1));
  look("standard error", stream_of(record, streams, 2));
  size_t looked_at = 0;
  uint64_t bytes = 0;
  for (const store::Effect& effect : record.effects) {
    if (effect.kind != store::EffectKind::kFile || effect.blob.empty()) continue;
    bytes += std::min(effect.size, kDatedBytes);
    if (found.size() >= kMostDated || ++looked_at > kDatedOutputs || bytes > kDatedInAll) break;
    // mothur.1795867201.logfile
    if (const auto name = store::find_dated(effect.path.name(), run); name && !name->duration)
      found.push_back(
          {{"output", effect.path.text}, {"line", 0}, {"text", name->text}, {"tells", "date"}});
    else
      look(effect.path.text, head_of(store, effect.blob, effect.size));
  }
  return {{"ok", true}, {"dated", std::move(found)}};
}

// The checkout that a path belongs to is found by trying: each directory above may be a root.
Json producer(store::Store& store, const Message& request) {
  const std::string path = request.text("path");
  Json answer = {{"ok", true}};
  int64_t latest_ns = -1;
  const auto consider = [&](const std::string& root, const std::string& name) {
    const auto found = store.producer(root, name);
    if (!found || found->when_ns <= latest_ns) return;
    latest_ns = found->when_ns;
    answer["root"] = root;
    answer["path"] = name;
    answer["strong"] = found->strong.hex();
    answer["hit"] = found->hit;
    answer["when_s"] = static_cast<double>(found->when_ns) / 1e9;
  };
  consider("", path);
  for (size_t slash = path.rfind('/'); slash != std::string::npos && slash > 0;
       slash = path.rfind('/', slash - 1))
    consider(path.substr(0, slash), path.substr(slash + 1));
  return answer;
}

Json makers(store::Store& store, const Message& request) {
  Json out = Json::array();
  for (const Json& file : request.body.value("files", Json::array())) {
    const auto digest = store::Digest::from_hex(file.at(1).get<std::string>());
    const auto maker = digest ? store.maker(file.at(0).get<std::string>(), *digest) : std::nullopt;
    out.push_back(maker ? maker->hex() : "");
  }
  return {{"ok", true}, {"makers", std::move(out)}};
}

}  // namespace

bool is_query(const std::string& op) {
  return op == "report" || op == "run_with" || op == "record" || op == "blob" || op == "producer" ||
         op == "makers" || op == "dated";
}

Json answer_query(store::Store& store, const Message& request) {
  const std::string op = request.text("op");
  try {
    if (op == "report") return report(store, request);
    if (op == "record") return record(store, request);
    if (op == "blob") return blob(store, request);
    if (op == "producer") return producer(store, request);
    if (op == "dated") return dated(store, request);
    if (op == "makers") return makers(store, request);
    return {{"ok", true}, {"number", store.run_with(request.text("text")).value_or(0)}};
  } catch (const Json::exception& error) {
    return {{"ok", false}, {"error", fmt::format("a query of no sense: {}", error.what())}};
  }
}

}  // namespace pcache::cli
