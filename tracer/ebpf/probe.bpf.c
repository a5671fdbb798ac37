// Reports the look-ups and opens of traced threads as they return. See ebpf_hub.h.
//
// A raw tracepoint needs neither the kernel's type information nor tracefs. At sys_exit the
// arguments still stand in the registers, and the pages of the path are there, as the kernel itself
// has just read them: one probe a call is enough.
#include <linux/types.h>
//
#include <asm/ioctls.h>
#include <asm/ptrace.h>
#include <asm/unistd.h>
#include <bpf/bpf_helpers.h>
#include <linux/bpf.h>
#include <linux/fcntl.h>

#include "event.h"

#define BEFORE_TEXT __builtin_offsetof(struct pcache_event, text)

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, PCACHE_THREADS);
  __type(key, __u32);  // thread id
  __type(value, struct pcache_thread);
} threads SEC(".maps");

// Descriptors that a process was given, or copies of its standard streams: a bit each.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, PCACHE_THREADS);
  __type(key, __u32);  // process id
  __type(value, __u64);
} marks SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, PCACHE_CALLS);
  __type(key, __u32);
  __type(value, struct pcache_call);
} calls SEC(".maps");

// Events that found no room, by session slot.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, PCACHE_SESSIONS);
  __type(key, __u32);
  __type(value, __u64);
} lost SEC(".maps");

// How often something was changed, by session slot: what was looked up before may be another thing.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, PCACHE_SESSIONS);
  __type(key, __u32);
  __type(value, __u64);
} changes SEC(".maps");

// Look-ups that were told, by their hash: one that finds another's place taken is told again.
struct look {
  __u64 low, high;
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, PCACHE_LOOKS);
  __type(key, __u32);
  __type(value, struct look);
} looks SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 20);  // bytes; the loader says how many
} ring SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct pcache_event);
} scratch SEC(".maps");

static __always_inline __u64 argument(const __u64 args[6], __u8 position) {
  switch (position) {
    case 0:
      return args[0];
    case 1:
      return args[1];
    case 2:
      return args[2];
    default:
      return args[3];
  }
}

static __always_inline void mix(struct look* hash, __u64 word) {
  hash->low = (hash->low ^ word) * 0x9e3779b97f4a7c15ULL;
  hash->low ^= hash->low >> 32;
  hash->high = (hash->high + word) * 0xc2b2ae3d27d4eb4fULL;
  hash->high ^= hash->high >> 29;
}

// A compiler asks the same of the same few directories a thousand times, and each answer but the
// first says nothing. `size`: of the text, with its NUL.
static __always_inline int told_before(struct pcache_event* event, __u64 size,
                                       const struct pcache_call* call,
                                       const struct pcache_thread* thread, __u32 number,
                                       __s64 result, const __u64 args[6]) {
  // What is relative may be so to the directory of another process.
  if (thread->scope == 0 || size > 8 * (PCACHE_LOOK_WORDS - 1) || event->text[0] != '/') return 0;
  __u32 session = thread->session & ~PCACHE_WANTS_RESULTS;
  const __u64* changed = bpf_map_lookup_elem(&changes, &session);
  if (!changed) return 0;
  struct look hash = {thread->scope, session};
  mix(&hash, *(const volatile __u64*)changed);
  mix(&hash, (__u64)number << 32 | (__u32)(result < 0 ? result : 0));
  mix(&hash, (call->flags == 255 ? 0 : argument(args, call->flags)) << 8 |
                 (call->bits == 255 ? 0 : argument(args, call->bits) & 0xff));
  volatile __u64* words = (volatile __u64*)event->text;
  *(volatile __u64*)(event->text + (size & (8 * PCACHE_LOOK_WORDS - 1))) = 0;  // up to a whole word
  for (__u32 i = 0; i < PCACHE_LOOK_WORDS && 8 * i < size; ++i) mix(&hash, words[i]);
  __u32 place = hash.low & (PCACHE_LOOKS - 1);
  struct look* known = bpf_map_lookup_elem(&looks, &place);
  if (!known) return 0;
  if (known->low == hash.low && known->high == hash.high) return 1;
  *known = hash;
  return 0;
}

static __always_inline void send(struct pcache_event* event, __u64 ids, __u32 number, __s64 result,
                                 __u32 session, const __u64 args[6], __u16 flags, __u64 size) {
  event->time_ns = bpf_ktime_get_ns();
  event->result = result;
  event->args[0] = args[0];
  event->args[1] = args[1];
  event->args[2] = args[2];
  event->args[3] = args[3];
  event->tid = (__u32)ids;
  event->session = (__u16)session;
  event->number = (__u16)number;
  event->flags = flags;
  event->size = (__u16)(size - 1);
  const __u64 length = BEFORE_TEXT + (size & (PCACHE_TEXT - 1));
  if (bpf_ringbuf_output(&ring, event, length, BPF_RB_NO_WAKEUP) != 0) {
    __u64* count = bpf_map_lookup_elem(&lost, &session);
    if (count) __sync_fetch_and_add(count, 1);
  }
}

static __always_inline int tell_without_path(const struct pcache_call* call, __u64 ids,
                                             __u32 number, __s64 result, __u32 session,
                                             const __u64 args[6]) {
  const __u32 fd = (__u32)args[0];
  if (call->kind == PCACHE_CALL_TERMINAL && (__u32)args[1] != TCGETS) return 0;
  if (call->kind >= PCACHE_CALL_DESCRIPTOR) {
    if (fd <= 2) return 0;  // the filter stops these
    __u32 process = ids >> 32;
    __u64* marked = bpf_map_lookup_elem(&marks, &process);
    if (!marked) return 0;
    const __u32 bit = fd < PCACHE_LAST_MARK ? fd : PCACHE_LAST_MARK;
    if ((*marked >> bit & 1) == 0) return 0;
    // The number is free at once, and the next thing that gets it is no stream.
    if (call->kind == PCACHE_CALL_CLOSE && bit < PCACHE_LAST_MARK)
      __sync_fetch_and_and(marked, ~(1ULL << bit));
  }
  __u32 zero = 0;
  struct pcache_event* event = bpf_map_lookup_elem(&scratch, &zero);
  if (!event) return 0;
  __u64 size = 1;
  __u16 told = 0;
  if (number == __NR_write && result > 0) {
    // What was written, where it is short; the page is there, as the kernel has just read it.
    const __u64 length = (__u64)result & (PCACHE_TEXT - 1);
    if (length == (__u64)result &&
        bpf_probe_read_user(event->text, length, (const void*)args[1]) == 0)
      size = length + 1;
    else
      told = PCACHE_EVENT_UNREADABLE;
  }
  send(event, ids, number, result, session, args, told, size);
  return 0;
}

static __always_inline int was_told(const struct pcache_call* call, const __u64 args[6]) {
  switch (call->told) {
    case PCACHE_TOLD_ALWAYS:
      return 1;
    case PCACHE_TOLD_OPENS:
      return (argument(args, call->flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0;
    case PCACHE_TOLD_DUPS:
      return (__u32)args[1] == F_DUPFD || (__u32)args[1] == F_DUPFD_CLOEXEC;
    default:
      return 0;
  }
}

static __always_inline int tell_result(__u64 ids, __u32 number, __s64 result, __u32 session,
                                       const __u64 args[6]) {
  __u32 zero = 0;
  struct pcache_event* event = bpf_map_lookup_elem(&scratch, &zero);
  if (event) send(event, ids, number, result, session, args, PCACHE_EVENT_RETURNED, 1);
  return 0;
}

SEC("raw_tracepoint/sys_exit")
int on_call(struct bpf_raw_tracepoint_args* context) {
  const __u64 ids = bpf_get_current_pid_tgid();
  __u32 tid = (__u32)ids;
  const struct pcache_thread* thread = bpf_map_lookup_elem(&threads, &tid);
  if (!thread) return 0;
  const __u32 session = thread->session & ~PCACHE_WANTS_RESULTS;

  struct pt_regs regs;
  if (bpf_probe_read_kernel(&regs, sizeof regs, (const void*)context->args[0]) != 0) return 0;
  __u32 number = (__u32)regs.orig_rax;
  const struct pcache_call* call = bpf_map_lookup_elem(&calls, &number);
  if (!call) return 0;
  const __s64 result = (__s64)context->args[1];
  const __u64 args[6] = {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9};
  if (call->told == PCACHE_TOLD_ALWAYS && result >= 0) {
    __u64* changed = bpf_map_lookup_elem(&changes, &session);
    if (changed) __sync_fetch_and_add(changed, 1);
  }
  if ((thread->session & PCACHE_WANTS_RESULTS) != 0 && was_told(call, args))
    return tell_result(ids, number, result, session, args);
  if (call->kind == PCACHE_CALL_NONE) return 0;
  if (call->kind == PCACHE_CALL_EXEC && result == 0) return 0;

  if (call->kind >= PCACHE_CALL_CWD)
    return tell_without_path(call, ids, number, result, session, args);
  const __u64 flags = call->flags == 255 ? 0 : argument(args, call->flags);
  if (call->kind == PCACHE_CALL_OPEN && (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0)
    return 0;
  __u16 told = 0;
  if (call->dirfd != 255 && (__s32)argument(args, call->dirfd) >= 0) {
    // The filter stops these, but for what fstat() is made of.
    if (call->kind != PCACHE_CALL_LOOK || (flags & AT_EMPTY_PATH) == 0) return 0;
    told = PCACHE_EVENT_BELOW_FD;
  }

  __u32 zero = 0;
  struct pcache_event* event = bpf_map_lookup_elem(&scratch, &zero);
  if (!event) return 0;
  long size =
      bpf_probe_read_user_str(event->text, PCACHE_TEXT, (const void*)argument(args, call->path));
  if (told != 0 && size == 1) return 0;  // fstat()
  if (size <= 0 || size >= PCACHE_TEXT) {
    if (result == -14) return 0;  // EFAULT: the kernel could not read it either
    told |= PCACHE_EVENT_UNREADABLE;
    size = 1;
  }
  // An open that works also says that its number was free.
  if (told == 0 && (call->kind == PCACHE_CALL_LOOK || result < 0) &&
      told_before(event, (__u64)size, call, thread, number, result, args))
    return 0;
  send(event, ids, number, result, session, args, told, (__u64)size);
  return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
