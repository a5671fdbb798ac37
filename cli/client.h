// Talking to pcached from a command: connecting, starting it on demand, one request.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cli/locations.h"
#include "cli/wire.h"

namespace pcache::cli {

struct Connection {
  Channel channel;
  pid_t daemon = 0;  // SO_PEERCRED
};

// Connects; starts pcached (found beside this program) when none runs. Errors are for people: they
// name the reason and the remedy.
Result<Connection> connect_or_start(const Locations& locations);
// Nothing when no daemon runs.
Result<std::optional<Connection>> connect_running(const Locations& locations);

// --log-level and --log-file, for the daemon: with the next requests, and when it is started.
// "": as it is set. Fails where the file cannot be opened.
Result<void> set_log_options(const std::string& level, const std::string& file);

// A request with what the daemon checks of every one (versions).
Json make_request(const char* op);

// Sends and waits for the final answer; messages with "progress" go to `progress`. An answer with
// "ok": false is an Error whose text is ready to be shown; `refusal` gets the whole answer.
Result<Message> ask(const Channel& channel, const Json& request,
                    const std::function<void(const Json&)>& progress = {}, Json* refusal = nullptr);

// "pcache: TEXT" on stderr; returns `status`.
int fail(const std::string& text, int status = 1);
void warn(const std::string& text);

}  // namespace pcache::cli
