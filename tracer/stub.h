// The stub: what a skipped process runs instead of its program.
//
// At the exec event, before the new image's first instruction, a few dozen bytes of
// position-independent code are written over the entry point (ld.so's, or the static program's;
// /proc/PID/mem makes private copies of read-only pages). The code writes one segment of a recorded
// stream, then either asks the tracer for the next (int3) or exits. So the process itself writes,
// and a slow reader, a closed pipe (SIGPIPE) or a non-blocking pipe behave as always; no thread of
// the daemon ever blocks on them, and streams of any length need 64 KiB of the stack.
//
//   registers   rdi descriptor, rsi bytes, rdx how many; r13 != 0: exit with r14 afterwards
#pragma once

#include <sys/user.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "store/record.h"
#include "store/unique_fd.h"
#include "tracer/tracee.h"

namespace pcache::tracer {

class StubRun {
 public:
  // `data`: the streams' bytes, one segment after the other; -1 when `inline_data` holds them.
  StubRun(std::vector<store::StreamSegment> segments, UniqueFd data, std::string inline_data,
          int exit_status);

  // At the exec event. False when the process cannot be changed; nothing has happened then.
  bool install(Tid tid);
  // Puts the program back as it was, before it has run.
  void uninstall(Tid tid);
  // At the stop after each segment (int3), and by install() for the first.
  bool feed(Tid tid);

 private:
  bool next_chunk(std::string* bytes, uint32_t* fd);

  std::vector<store::StreamSegment> segments_;
  UniqueFd data_;
  std::string inline_data_;
  int exit_status_;
  size_t segment_ = 0;
  uint64_t in_segment_ = 0, offset_ = 0;
  RemotePtr code_, window_;
  std::string original_code_;
  user_regs_struct original_regs_{};
};

}  // namespace pcache::tracer
