// One `pcache run`, from its request to its report: the daemon's half of the handshake described in
// cli/run_command.cc. Runs on the thread of the client's connection, which becomes the tracer
// thread.
#pragma once

#include <sys/types.h>

#include "cli/daemon/mount_table.h"
#include "cli/daemon/probe_holder.h"
#include "cli/daemon/session_table.h"
#include "cli/daemon/store_holder.h"
#include "cli/wire.h"
#include "tracer/listener_heir.h"

namespace pcache::cli {

struct RunServices {
  MountTable& mounts;
  SessionTable& sessions;
  StoreHolder& store;
  ProbeHolder& probes;
  tracer::ListenerHeir& heir;
};

// A command that this thread has seized in its exec; `request` has the settings of its mount. The
// same, but for the handshake and all that is told to a client.
void handle_seized(const RunServices& services, Message request, pid_t process);

// Returns when the command and all its descendants have ended.
void handle_run(const RunServices& services, Channel& channel, Message request, pid_t client);

}  // namespace pcache::cli
