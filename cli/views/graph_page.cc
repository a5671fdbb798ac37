#include "cli/views/graph_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "cli/text.h"
#include "cli/views/reasons.h"
#include "graph_template.h"

namespace pcache::cli {
namespace {

constexpr size_t kLabelWidth = 60;

void replace_once(std::string* text, std::string_view mark, std::string_view with) {
  if (const size_t at = text->find(mark); at != std::string::npos)
    text->replace(at, mark.size(), with);
}

// "</script>" or "<!--" in a command line must not end the page's data.
std::string script_safe(const std::string& json) {
  std::string out;
  out.reserve(json.size());
  for (const char c : json) c == '<' ? out += "\\u003c" : out += c;
  return out;
}

std::string dot_quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

const char* dot_colour(const std::string& outcome) {
  if (outcome == "hit") return "#bfe5d3";
  if (outcome == "miss") return "#f8dca8";
  if (outcome == "uncacheable") return "#f3bcc6";
  return "#e2e2e2";
}

}  // namespace

std::string graph_html(const Json& report, uint64_t number) {
  Json reasons = Json::object();
  for (const ReasonRow& row : reason_rows())
    reasons[std::string(row.code)] = {
        {"meaning", row.meaning}, {"remedy", row.remedy}, {"never", row.never}};
  const Json data = {{"run", number}, {"report", report}, {"reasons", std::move(reasons)}};
  std::string page = kPageHtml;
  replace_once(&page, "@PAGE_CSS@", kPageCss);
  replace_once(&page, "@PAGE_JS@", kPageJs);
  // Last, so that nothing in it is taken for a mark.
  replace_once(&page, "@PAGE_DATA@",
               script_safe(data.dump(-1, ' ', false, Json::error_handler_t::replace)));
  return page;
}

std::string graph_dot(const Json& report) {
  std::string out =
      "digraph run {\n  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\", "
      "fontname=\"monospace\", fontsize=10];\n";
  for (const Json& e : report.value("executions", Json::array())) {
    const std::string outcome = e.value("outcome", "");
    std::string label = command_text(e.value("argv", std::vector<std::string>()), kLabelWidth) +
                        "\\n" +
                        (outcome == "miss"          ? "ran"
                         : outcome == "uncacheable" ? "not cacheable"
                                                    : outcome);
    const double saved = e.value("saved_s", 0.0);
    label += outcome == "hit" ? ", saved " + format_seconds(saved)
                              : ", " + format_seconds(e.value("cpu_s", 0.0)) + " cpu";
    const Json reasons = e.value("reasons", Json::array());
    if (!reasons.empty())
      label += "\\n" + reasons[0].value("code", "") + " " + printable(reasons[0].value("path", ""));
    // dot's own "\n" stays; everything else is escaped.
    std::string quoted;
    for (size_t begin = 0; begin <= label.size();) {
      const size_t end = std::min(label.find("\\n", begin), label.size());
      const std::string part = dot_quoted(label.substr(begin, end - begin));
      quoted += (begin > 0 ? "\\n" : "") + part.substr(1, part.size() - 2);
      begin = end + 2;
    }
    out += fmt::format("  e{} [label=\"{}\", fillcolor=\"{}\"];\n", e.value("id", 0), quoted,
                       dot_colour(outcome));
    if (const int parent = e.value("parent", 0); parent != 0)
      out += fmt::format("  e{} -> e{};\n", parent, e.value("id", 0));
  }
  return out + "}\n";
}

}  // namespace pcache::cli
