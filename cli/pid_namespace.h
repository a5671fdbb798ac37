// run --pid-namespace: a command whose processes are numbered from 2 in a namespace of their own,
// so that it gets the same process ids each time.
//
//   pcache        stays where the shell knows it; passes signals in, stops and ends as CMD does
//    `- init      process 1 of the namespace: reaps, passes signals on, tells how CMD fares
//        `- CMD   process 2; /proc, mounted anew in a mount namespace, agrees with its ids
//
// An ordinary user gets a user namespace with the same user and group. When CMD has ended, the
// kernel kills what is left in the namespace.
#pragma once

#include <functional>

#include "store/result.h"

namespace pcache::cli {

// Makes the namespace for the children of this process, which must have no other thread. Errors
// name the remedy.
Result<void> open_pid_namespace();

// In CMD's process, before it becomes CMD: mounts a /proc of the namespace, for it and its children
// alone.
Result<void> mount_own_proc();

// What init is called where CMD is traced.
inline constexpr const char* kTracedInit = "pcache-init";

// Runs `command` as process 2, which is to become CMD or gives the status to end with. Returns
// CMD's exit status; where a signal killed CMD, that signal kills this process.
int run_in_pid_namespace(const std::function<int()>& command, const char* init_name);

}  // namespace pcache::cli
