// EventStream: what a watched command does, as JSON lines on a descriptor, for `trace` and
// `census`.
//
//   {"t": µs, "tid": n, "ev": "fork", "child": n, "thread": bool}
//   {"t", "tid", "ev": "exec", "id", "parent", "path", "argv", "cwd", "env": {"NAME": value or
//   null}}
//        env: what differs from the environment of the program before it; secrets are left out
//   {"t", "tid", "ev": "exit", "status", "cpu_us", "thread"}
//   {"t", "tid", "ev": "call", "name", "what", "result", and what the call has of:
//        "path", "path2"   canonical where they could be resolved
//        "at": true        relative to a real dirfd
//        "flags"           of an open: O_*
//        "fd", "ino"       the descriptor that it is about; "path" is then what that leads to
//        "existed"         of what may create: there was something before
//        "family"          of sockets}
//
// pcache renders and counts. Called on the tracer thread (tracer/watcher.h). A reader that is gone
// ends the stream, not the command.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "store/observer.h"
#include "tracer/resolver.h"
#include "tracer/watcher.h"

namespace pcache::cli {

class EventStream : public tracer::Watcher {
 public:
  EventStream(UniqueFd out, store::Tree& tree, store::Store& store);

  tracer::Answer on_call(const tracer::CallEvent& event) override;
  void on_result(const tracer::CallEvent& event, int64_t result) override;
  void on_fork(tracer::Tid parent, tracer::Tid child, bool thread) override;
  void on_exec(const Exec& exec) override;
  void on_exit(tracer::Tid tid, int status, uint64_t cpu_ns, bool thread) override;
  void close() { out_.reset(); }

 private:
  using Json = nlohmann::ordered_json;
  struct Named {
    std::string path;
    int err = 0;
    uint64_t ino = 0;
  };
  Json begin(tracer::Tid tid, const char* kind) const;
  void write(const Json& event);
  Named name(const tracer::CallEvent& event, bool second);
  void describe_descriptor(const tracer::CallEvent& event, int fd, Json* out) const;
  bool watched(tracer::Tid tid) const { return known_.contains(tid.value); }

  UniqueFd out_;
  const store::Observer observer_;
  tracer::Resolver resolver_;
  const int64_t started_us_;
  std::unordered_set<pid_t> known_;               // since their first exec; before that it is us
  std::unordered_map<pid_t, Json> pending_;       // calls between entry and result
  std::unordered_map<pid_t, std::string> named_;  // what their last execve named
  std::unordered_map<pid_t, std::map<std::string, std::string>> environments_;
};

}  // namespace pcache::cli
