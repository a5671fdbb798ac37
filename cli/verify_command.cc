// pcache verify: hashes what is stored, and removes what is damaged.
#include <fmt/format.h>
#include <unistd.h>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/text.h"

namespace pcache::cli {
namespace {

constexpr size_t kShown = 20;  // of the damaged, to people

// "10%", "10 %", "0.1"
std::optional<double> parse_part(const std::string& text) {
  char* end = nullptr;
  double part = std::strtod(text.c_str(), &end);
  std::string unit = end;
  if (end == text.c_str()) return std::nullopt;
  if (unit == "%" || unit == " %")
    part /= 100;
  else if (!unit.empty())
    return std::nullopt;
  return part > 0 && part <= 1 ? std::optional(part) : std::nullopt;
}

void print_found(const Json& found) {
  const Json damaged = found.value("damaged", Json::array());
  fmt::print("{} of contents in {} and {} are whole.\n",
             format_bytes(found.value("bytes", uint64_t{0})),
             counted(found.value("blobs", uint64_t{0}), "file", "files"),
             counted(found.value("records", uint64_t{0}), "record", "records"));
  if (damaged.empty()) return;
  const Painter paint(STDOUT_FILENO);
  fmt::print("{}\n", paint(Colour::kRed, counted(damaged.size(), "damaged entry was removed; its",
                                                 "damaged entries were removed; their") +
                                             " commands run again:"));
  std::vector<std::vector<std::string>> rows;
  for (const Json& entry : damaged) {
    if (rows.size() == kShown) {
      rows.push_back({fmt::format("and {} more (--json has all)", damaged.size() - kShown)});
      break;
    }
    rows.push_back({entry.value("what", ""), entry.value("name", ""), entry.value("why", "")});
  }
  fmt::print("{}", aligned(rows, "  ", wrap_width(STDOUT_FILENO)));
}

}  // namespace

int verify_command(const VerifyArguments& arguments) {
  Json request = make_request("verify");
  if (!arguments.sample.empty()) {
    const auto part = parse_part(arguments.sample);
    if (!part) return fail(printable(arguments.sample) + " is no part: say 10% or 0.1", 2);
    request["sample"] = *part;
  }
  const auto locations = Locations::find();
  if (!locations) return fail(locations.error().to_string());
  auto connection = connect_or_start(*locations);
  if (!connection) return fail(connection.error().to_string());
  ProgressBar bar;
  const auto answer = ask(connection->channel, request, [&](const Json& progress) {
    const uint64_t done = progress.value("done", uint64_t{0});
    const uint64_t total = progress.value("total", uint64_t{0});
    bar.show(total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total),
             format_bytes(done) + " of " + format_bytes(total));
  });
  bar.clear();
  if (!answer) return fail(answer.error().to_string());
  Json found = answer->body;
  found.erase("ok");
  if (arguments.json)
    fmt::print("{}\n", found.dump(2));
  else
    print_found(found);
  return found.value("damaged", Json::array()).empty() ? 0 : 1;
}

}  // namespace pcache::cli
