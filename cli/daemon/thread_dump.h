// The stacks of all threads, into the log: on SIGUSR1, and of the failing thread in a crash.
//
// Each thread writes its own stack from a signal handler (kDumpSignal); one that does not answer in
// 200 ms (stuck in the kernel) is shown with its state, wait channel and system call instead.
#pragma once

namespace pcache::cli {

void install_dump_handlers();  // before any thread is started
void dump_all_threads();       // from one thread at a time

}  // namespace pcache::cli
