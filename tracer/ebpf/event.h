/* What the BPF program and the daemon tell each other. C and C++. */
#ifndef PCACHE_TRACER_EBPF_EVENT_H
#define PCACHE_TRACER_EBPF_EVENT_H

#ifndef __bpf__
#include <linux/types.h>
#endif

enum {
  PCACHE_CALLS = 1024,      /* system-call numbers below this are looked up */
  PCACHE_SESSIONS = 64,     /* slots; slot 0 is nobody's */
  PCACHE_TEXT = 4096,       /* PATH_MAX */
  PCACHE_THREADS = 1 << 16, /* traced at once */
  PCACHE_LAST_MARK = 63,    /* the bit that stands for every descriptor from here on */
  PCACHE_LOOKS = 1 << 15,   /* look-ups remembered, of all sessions */
  PCACHE_LOOK_WORDS = 32,   /* of 8 bytes: longer paths are told each time */
};

/* What is reported of a call. */
enum pcache_call_kind {
  PCACHE_CALL_NONE = 0,
  PCACHE_CALL_LOOK = 1,       /* stat, access, readlink */
  PCACHE_CALL_OPEN = 2,       /* unless it can change something: the filter stops those */
  PCACHE_CALL_EXEC = 3,       /* when it fails: the tracer sees the others */
  PCACHE_CALL_CWD = 4,        /* getcwd */
  PCACHE_CALL_TERMINAL = 5,   /* ioctl(TCGETS) */
  PCACHE_CALL_DESCRIPTOR = 6, /* reads and writes: of descriptors above 2 that are marked */
  PCACHE_CALL_CLOSE = 7,      /* of a marked one, which ends the mark */
};

/* Which calls a seized session's filter tells of before they run, so that their results are told.
 */
enum pcache_call_told {
  PCACHE_TOLD_NEVER = 0,
  PCACHE_TOLD_ALWAYS = 1,
  PCACHE_TOLD_OPENS = 2, /* opens that can change something */
  PCACHE_TOLD_DUPS = 3,  /* fcntl(F_DUPFD) */
};

/* Positions of arguments; 255: there is none. */
struct pcache_call {
  __u8 kind;
  __u8 path;
  __u8 dirfd;
  __u8 flags;
  __u8 bits; /* access's mode */
  __u8 told;
};

/* A thread that is watched. Of two look-ups of an absolute path that are alike in all but the time,
 * the second is told only where something was changed in between. */
struct pcache_thread {
  __u32 session; /* slot, and PCACHE_WANTS_RESULTS */
  __u32 scope;   /* its execution; 0: all its look-ups are told */
};

/* In pcache_thread.session, beside the slot: results are told (enum pcache_call_told). */
#define PCACHE_WANTS_RESULTS 0x80000000u

enum pcache_event_flag {
  PCACHE_EVENT_UNREADABLE = 1, /* the path could not be read, or was cut */
  PCACHE_EVENT_BELOW_FD = 2,   /* relative to a descriptor that may be another by now */
  PCACHE_EVENT_RETURNED = 4,   /* of a call that was told before it ran: the result alone */
};

struct pcache_event {
  __u64 time_ns; /* CLOCK_MONOTONIC, as the call returns */
  __s64 result;
  __u64 args[4];
  __u32 tid;
  __u16 session;
  __u16 number;
  __u16 flags;
  __u16 size; /* of text, without a NUL */
  __u32 unused;
  char text[PCACHE_TEXT];
};

#endif
