#include "cli/views/provenance.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "cli/views/runs.h"
#include "store/digest.h"

namespace pcache::cli {
namespace {

using Words = std::vector<std::string>;
constexpr int kDeepest = 64;

// Of what is at `path` now; "" where it is no file.
std::string hash_of_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat st {};
  if (!fd || ::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) return "";
  store::Hasher hasher;
  std::string buffer(1 << 20, '\0');
  while (true) {
    const ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return "";
    if (n == 0) return hasher.finish().hex();
    hasher.raw(buffer.data(), static_cast<size_t>(n));
  }
}

std::string left_contents(const Json& record, const std::string& path) {
  std::string hash;
  for (const Json& effect : record.value("effects", Json::array()))
    if (effect.value("path", "") == path && effect.value("kind", "") == "file")
      hash = effect.value("hash", "");
  return hash;
}

bool in_project(const Json& input) {
  const std::string path = input.value("path", "");
  return path.empty() || path[0] != '/';
}

std::string command_line(const Json& command, size_t width) {
  return command_text(command.value("argv", Words()), width);
}

void print_inputs(const Painter& paint, const Json& inputs) {
  std::vector<std::vector<std::string>> rows;
  size_t outside = 0;
  const size_t width = std::max<size_t>(30, terminal_width(STDOUT_FILENO) / 2);
  for (const Json& input : inputs) {
    const bool made = input.contains("maker");
    if (!made && !in_project(input)) {
      ++outside;
      continue;
    }
    rows.push_back({printable(input.value("path", "")),
                    made ? "made by " + command_line(input["maker"], width) : ""});
  }
  if (rows.empty() && outside == 0) return;
  fmt::print("Inputs:\n{}", aligned(rows, "  "));
  if (outside > 0)
    fmt::print("  {}\n", paint(Colour::kDim, counted(outside, "file", "files") +
                                                 " outside the project (--json lists them)"));
}

void print_branch(const Painter& paint, const Json& node, const std::string& indent, int depth) {
  if (depth > kDeepest) return;
  Json shown = Json::array();
  size_t outside = 0;
  for (const Json& input : node.value("inputs", Json::array())) {
    if (input.contains("maker") || in_project(input))
      shown.push_back(input);
    else
      ++outside;
  }
  const size_t rows = shown.size() + (outside > 0);
  size_t row = 0;
  for (const Json& input : shown) {
    const bool last = ++row == rows;
    const std::string name = printable(input.value("path", ""));
    std::string from;
    if (input.contains("maker"))
      from = "  <- " + command_line(input["maker"], 70) +
             (input["maker"].value("repeated", false) ? "  (above)" : "");
    fmt::print("{}{}{}{}\n", indent, last ? "`- " : "|- ", name, paint(Colour::kDim, from));
    if (input.contains("maker"))
      print_branch(paint, input["maker"], indent + (last ? "   " : "|  "), depth + 1);
  }
  if (outside > 0)
    fmt::print("{}`- {}\n", indent,
               paint(Colour::kDim, counted(outside, "file", "files") + " outside the project"));
}

}  // namespace

std::vector<std::string> Provenance::makers(const Json& files) {
  Json request = make_request("makers");
  request["files"] = files;
  const auto answer = ask(channel_, request);
  return answer ? answer->body.value("makers", std::vector<std::string>())
                : std::vector<std::string>();
}

Json Provenance::inputs(const std::string& strong, const Json& record, bool deep) {
  Json files = Json::array(), out = Json::array();
  for (const Json& fact : record.value("facts", Json::array())) {
    if (fact.value("kind", "") != "content" || !fact.contains("hash")) continue;
    files.push_back(Json::array({fact.value("path", ""), fact.value("hash", "")}));
    out.push_back({{"path", fact.value("path", "")}, {"hash", fact.value("hash", "")}});
  }
  const std::vector<std::string> found = makers(files);
  for (size_t i = 0; i < found.size() && i < out.size(); ++i) {
    if (found[i].empty() || found[i] == strong) continue;
    const Json maker = read_record(channel_, found[i]);
    if (maker.is_object()) out[i]["maker"] = command(found[i], maker, deep);
  }
  return out;
}

Json Provenance::command(const std::string& strong, const Json& record, bool deep) {
  Json out = {{"record", strong}};
  for (const char* field : {"argv", "executable", "cwd", "cpu_s", "wall_s"})
    out[field] = record.value(field, Json());
  out["recorded_s"] = record.value("created_s", 0.0);
  if (!deep) return out;
  if (!shown_.insert(strong).second) {
    out["repeated"] = true;
    return out;
  }
  out["inputs"] = inputs(strong, record, deep);
  return out;
}

Result<Json> Provenance::of(const std::string& path, bool deep) {
  Json request = make_request("producer");
  request["path"] = path;
  PCACHE_ASSIGN(const Message answer, ask(channel_, request));
  const std::string left_by = answer.text("strong");
  if (left_by.empty()) return Json();
  const std::string name = answer.text("path");
  const Json outer = read_record(channel_, left_by);
  if (!outer.is_object()) return Json();

  // A make that hit whole left what one of its compilers had made.
  std::string made_by = left_by;
  Json record = outer;
  const std::string contents = left_contents(outer, name);
  const std::vector<std::string> inner = makers(Json::array({Json::array({name, contents})}));
  if (!inner.empty() && !inner[0].empty() && inner[0] != left_by) {
    if (Json found = read_record(channel_, inner[0]); found.is_object()) {
      made_by = inner[0];
      record = std::move(found);
    }
  }
  Json out = {{"file", path},
              {"root", answer.text("root")},
              {"path", name},
              {"served", answer.flag("hit")},
              {"when_s", answer.body.value("when_s", 0.0)},
              {"made_by", command(made_by, record, deep)}};
  if (!deep) out["made_by"]["inputs"] = inputs(made_by, record, false);
  if (made_by != left_by)
    out["as_part_of"] = {{"record", left_by}, {"argv", outer.value("argv", Words())}};
  request = make_request("run_with");
  request["text"] = "\"record\":\"" + left_by + "\"";
  PCACHE_ASSIGN(const Message run, ask(channel_, request));
  out["run"] = run.body.value("number", uint64_t{0});
  if (!contents.empty()) {
    const std::string now = hash_of_file(path);
    out["state"] = now == contents ? "unchanged" : now.empty() ? "gone" : "changed";
  }
  return out;
}

void print_provenance(const Painter& paint, const Json& file, bool tree) {
  const Json& made = file["made_by"];
  const size_t width = terminal_width(STDOUT_FILENO) - 12;
  std::vector<std::vector<std::string>> rows;
  rows.push_back({"Made by", command_line(made, width)});
  const std::string cwd = made.value("cwd", "");
  rows.push_back({"in", cwd.empty() ? printable(file.value("root", "")) : printable(cwd)});
  rows.push_back({"recorded", fmt::format("{}, took {}, {} of processor time",
                                          time_text(made.value("recorded_s", 0.0)),
                                          format_seconds(made.value("wall_s", 0.0)),
                                          format_seconds(made.value("cpu_s", 0.0)))});
  const uint64_t run = file.value("run", uint64_t{0});
  std::string how = file.value("served", false) ? "served from the store" : "the command ran";
  how += run != 0 ? fmt::format(", in run {}", run) : ", in a run that is no longer kept";
  how += ", " + time_text(file.value("when_s", 0.0));
  if (file.contains("as_part_of")) how += ", as part of " + command_line(file["as_part_of"], 40);
  rows.push_back({"left by", how});
  if (const std::string state = file.value("state", ""); !state.empty())
    rows.push_back({"since then", state == "changed"
                                      ? paint(Colour::kYellow, "changed by somebody else")
                                      : state});
  fmt::print("{}\n{}", paint(Colour::kBold, printable(file.value("file", ""))),
             aligned(rows, "  "));
  if (!tree) return print_inputs(paint, made.value("inputs", Json::array()));
  fmt::print("{}{}\n", printable(file.value("path", "")),
             paint(Colour::kDim, "  <- " + command_line(made, 70)));
  print_branch(paint, made, "", 0);
}

}  // namespace pcache::cli
