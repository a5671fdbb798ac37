#include "cli/views/explain.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "cli/views/line_diff.h"
#include "cli/views/reasons.h"
#include "cli/views/select.h"

namespace pcache::cli {
namespace {

constexpr size_t kDiffLines = 24;
constexpr const char* kDatedRemedy =
    "a hit brings it back as it was recorded: SOURCE_DATE_EPOCH, `tar --mtime`, `gzip -n` or the "
    "tool's own option leave the date out; strict_clock does not record what reads the clock";
constexpr size_t kEarlierRuns = 5;  // looked at for a command that is like one of now

std::string hash_of_content(const Json& record, const std::string& path) {
  if (!record.is_object()) return "";  // what was not recorded has none
  for (const Json& fact : record.value("facts", Json::array()))
    if (fact.value("kind", "") == "content" && fact.value("path", "") == path)
      return fact.value("hash", "");
  return "";
}

std::string read_small(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes(64 * 1024 + 1, '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<size_t>(in.gcount()));
  return bytes;
}

std::string joined(const Words& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

std::string outcome_text(const Painter& paint, const std::string& outcome) {
  if (outcome == "miss") return paint(Colour::kYellow, "ran");
  if (outcome == "uncacheable") return paint(Colour::kRed, "not cached");
  if (outcome == "not_worth_it") return paint(Colour::kDim, "not worth it");
  return paint(Colour::kGreen, outcome);
}

void print_diff(const Painter& paint, const Json& diff) {
  for (const Json& line : diff) {
    const std::string sign = line.value("sign", " ");
    const std::string text = printable(line.value("text", ""));
    const Colour colour = sign == "-"   ? Colour::kRed
                          : sign == "+" ? Colour::kGreen
                          : sign == "@" ? Colour::kDim
                                        : Colour::kNone;
    fmt::print("        {}\n", paint(colour, sign == "@" ? text : sign + " " + text));
  }
}

}  // namespace

std::string Explainer::contents(const std::string& digest) const {
  if (digest.empty()) return "";
  Json request = make_request("blob");
  request["digest"] = digest;
  const auto answer = ask(channel_, request);
  if (!answer || !answer->body.contains("bytes") || !answer->body["bytes"].is_binary()) return "";
  const auto& bytes = answer->body["bytes"].get_binary();
  return {bytes.begin(), bytes.end()};
}

// The contents that the record was made with against those that the run found; where the store has
// not kept the latter, against the file as it is now.
void Explainer::add_diff(Json& reason, const Json& nearest, const Json& own) {
  const std::string path = reason.value("path", "");
  const std::string before_hash = hash_of_content(nearest, path);
  const std::string now_hash = hash_of_content(own, path);
  if (path.empty() || before_hash.empty()) return;
  const std::string before = contents(before_hash);
  if (before.empty() || !is_small_text(before)) return;
  std::string now = contents(now_hash);
  if (now.empty())
    now = read_small(path[0] == '/' ? path : run_.report.value("root", "") + "/" + path);
  if (now.empty() || !is_small_text(now)) return;
  const auto diff = line_diff(before, now, kDiffLines);
  if (!diff || diff->empty()) return;
  Json lines = Json::array();
  for (const DiffLine& line : *diff)
    lines.push_back({{"sign", std::string(1, line.sign)}, {"text", line.text}});
  reason["diff"] = std::move(lines);
}

// Nothing is known of a command that is new; what it was before somebody edited it says why it is.
Json Explainer::near_command(const Json& execution) {
  if (!earlier_read_) {
    earlier_read_ = true;
    const auto end = std::find(run_.kept.begin(), run_.kept.end(), run_.number);
    for (auto at = end; at != run_.kept.begin() && earlier_.size() < kEarlierRuns;)
      if (auto earlier = read_run(channel_, std::to_string(*--at)))
        earlier_.push_back(std::move(*earlier));
  }
  for (const RunView& earlier : earlier_) {
    const NearCommand near = nearest_command(execution, earlier.report, run_.report);
    if (near.argv.empty()) continue;
    return {{"argv", near.argv},
            {"run", earlier.number},
            {"removed", near.removed},
            {"added", near.added}};
  }
  return nullptr;
}

// What is recorded and tells when, or how long, it ran.
Json Explainer::dated_outputs(const std::string& record) const {
  if (record.empty()) return Json::array();
  Json request = make_request("dated");
  request["strong"] = record;
  const auto answer = ask(channel_, request);
  return answer ? answer->body.value("dated", Json::array()) : Json::array();
}

Json Explainer::explain(const Json& execution) {
  Json out = execution;
  const Json nearest = read_record(channel_, execution.value("nearest", ""));
  const Json own = read_record(channel_, execution.value("record", ""));
  if (nearest.is_object())
    out["compared_with"] = {{"record", execution.value("nearest", "")},
                            {"created_s", nearest.value("created_s", 0.0)}};
  if (execution.value("outcome", "") == "hit" && own.is_object())
    out["record_made_s"] = own.value("created_s", 0.0);
  bool is_new = false;
  for (Json& reason : out["reasons"]) {
    const std::string code = reason.value("code", "");
    const ReasonRow& row = reason_row(code);
    reason["never"] = row.never;
    reason["remedy"] = row.remedy;
    if (code == "content-changed" && nearest.is_object()) add_diff(reason, nearest, own);
    is_new = is_new || code == "no-record";
  }
  if (Json dated = dated_outputs(execution.value("record", "")); !dated.empty()) {
    out["dated"] = std::move(dated);
    out["dated_remedy"] = kDatedRemedy;
  }
  if (is_new)
    if (Json near = near_command(execution); near.is_object()) out["like"] = std::move(near);
  return out;
}

namespace {

void print_dated(const Painter& paint, const Json& execution) {
  const Json dated = execution.value("dated", Json::array());
  for (const Json& output : dated) {
    const int line = output.value("line", 0);
    fmt::print("    {} {} tells {}, in {}: {}\n", paint(Colour::kYellow, "dated:"),
               printable(output.value("output", "")),
               output.value("tells", "") == "date" ? "when it was made" : "how long it took",
               line == 0 ? "its name" : fmt::format("line {}", line),
               printable(output.value("text", "")));
  }
  if (!dated.empty())
    fmt::print("      {}\n", paint(Colour::kDim, "-> " + execution.value("dated_remedy", "")));
}

}  // namespace

void print_explained(const Painter& paint, const Json& execution) {
  const std::string outcome = execution.value("outcome", "");
  std::string number = fmt::format("#{}", execution.value("id", 0));
  if (const auto more = execution.value("alike", uint64_t{0}); more > 0)
    number += fmt::format(" and {} more for the same reasons", more);
  const size_t taken = outcome.size() + number.size() + 6;
  const size_t width = terminal_width(STDOUT_FILENO);
  fmt::print(
      "{}: {}  {}\n", outcome_text(paint, outcome),
      command_text(execution.value("argv", Words()), width > taken + 24 ? width - taken : 24),
      paint(Colour::kDim, number));
  if (outcome == "hit") {
    const double made = execution.value("record_made_s", 0.0);
    fmt::print("    nothing ran: {}, saved {}\n",
               made > 0 ? "recorded " + time_text(made) : "its record is gone by now",
               format_seconds(execution.value("saved_s", 0.0)));
    return print_dated(paint, execution);
  }
  std::vector<std::vector<std::string>> rows;
  // A path that was looked for in two ways is one reason to a person.
  Json reasons = Json::array();
  for (const Json& reason : execution.value("reasons", Json::array()))
    if (std::find(reasons.begin(), reasons.end(), reason) == reasons.end())
      reasons.push_back(reason);
  for (const Json& reason : reasons) {
    std::string path = printable(reason.value("path", ""));
    std::string detail = printable(reason.value("detail", ""));
    if (const auto more = reason.value("and", uint64_t{0}); more > 0)
      (path.empty() ? detail : path) += fmt::format(" and {} more", more);
    rows.push_back({reason.value("code", ""), path, detail});
  }
  if (rows.empty()) rows.push_back({"no reason was recorded"});
  const size_t wrap = wrap_width(STDOUT_FILENO);
  const std::vector<std::string> table = aligned_rows(rows, "    ", wrap);
  for (size_t i = 0; i < rows.size(); ++i) {
    fmt::print("{}", table[i]);
    if (i >= reasons.size()) break;
    print_diff(paint, reasons[i].value("diff", Json::array()));
    const std::string remedy = reasons[i].value("remedy", "");
    if (!remedy.empty() && (i + 1 == reasons.size() ||
                            reasons[i + 1].value("code", "") != reasons[i].value("code", "")))
      fmt::print("{}", aligned({{paint(Colour::kDim, "-> " + remedy)}}, "      ", wrap));
  }
  if (execution.contains("compared_with"))
    fmt::print("    compared with what was recorded {}\n",
               time_text(execution["compared_with"].value("created_s", 0.0)));
  if (execution.contains("like")) {
    const Json& like = execution["like"];
    fmt::print("    most like run {}'s {}\n", like.value("run", 0),
               command_text(like.value("argv", Words()), terminal_width(STDOUT_FILENO) - 24));
    if (const Words words = like.value("removed", Words()); !words.empty())
      fmt::print("        {}\n", paint(Colour::kRed, "- " + printable(joined(words))));
    if (const Words words = like.value("added", Words()); !words.empty())
      fmt::print("        {}\n", paint(Colour::kGreen, "+ " + printable(joined(words))));
  }
  print_dated(paint, execution);
}

Json reason_codes_json() {
  Json out = Json::array();
  for (const ReasonRow& row : reason_rows())
    out.push_back({{"code", row.code},
                   {"never", row.never},
                   {"meaning", row.meaning},
                   {"remedy", row.remedy}});
  return out;
}

void print_reason_codes(const Painter& paint) {
  for (const bool never : {false, true}) {
    fmt::print("{}\n", paint(Colour::kBold, never ? "Why a command is not recorded:"
                                                  : "Why a record does not fit any more:"));
    std::vector<std::vector<std::string>> rows;
    for (const ReasonRow& row : reason_rows()) {
      if (row.never != never) continue;
      rows.push_back({std::string(row.code), std::string(row.meaning)});
      if (!row.remedy.empty()) rows.push_back({"", "-> " + std::string(row.remedy)});
    }
    fmt::print("{}", aligned(rows, "  ", wrap_width(STDOUT_FILENO)));
  }
}

}  // namespace pcache::cli
