// The vDSO tells a process the time without a system call. Where reading the clock is of matter
// (store::Lists::strict_clock) it is hidden from each new program, so that the C library asks the
// kernel, and the filter tells of it.
//
// What is not reached: a program that looks for "[vdso]" in /proc/self/maps, or reads rdtsc.
#pragma once

#include "tracer/tracee.h"

namespace pcache::tracer {

// At the exec event of a traced process, by the thread that traces it: the vDSO's address is taken
// out of the auxiliary vector on its stack, from which the dynamic linker, static programs and
// other runtimes all take it. True where there is none; false where the stack can't be changed. A
// 32-bit program is left as it is: it is never recorded.
bool hide_vdso(Tid tid);

}  // namespace pcache::tracer
