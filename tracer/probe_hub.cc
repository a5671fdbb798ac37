#include "tracer/probe_hub.h"

#include <fcntl.h>

#ifdef PCACHE_HAVE_BPF
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "tracer/ebpf/event.h"
#endif

namespace pcache::tracer {

HubShare hub_share(const SyscallRow& row) {
  switch (row.meaning) {
    case Meaning::kOpen:
    case Meaning::kStat:
    case Meaning::kAccess:
    case Meaning::kReadLink:
      return HubShare::kPaths;
    case Meaning::kExec:  // execveat is rare, and names its program by a descriptor
      return row.first.dirfd < 0 ? HubShare::kPaths : HubShare::kNothing;
    case Meaning::kGetCwd:
      return HubShare::kWhole;
    case Meaning::kIoctl:
      return HubShare::kTerminal;
    case Meaning::kRead:
    case Meaning::kWrite:
    case Meaning::kWriteV:
      return HubShare::kDescriptors;
    default:
      return row.name == "close" ? HubShare::kClose : HubShare::kNothing;
  }
}

#ifdef PCACHE_HAVE_BPF
namespace {

extern "C" const unsigned char pcache_probe_begin[], pcache_probe_end[];
asm(".section .rodata\n.balign 16\n"
    "pcache_probe_begin: .incbin \"" PCACHE_PROBE_OBJECT
    "\"\npcache_probe_end: .byte 0\n.previous");

constexpr size_t kPage = 4096;
constexpr ino_t kFirstPidNamespace = 0xeffffffc;  // PROC_PID_INIT_INO

struct Unmap {
  size_t size = 0;
  void operator()(void* at) const { ::munmap(at, size); }
};
using Mapping = std::unique_ptr<void, Unmap>;

Mapping map_shared(int fd, size_t size, int protection, off_t offset) {
  void* at = ::mmap(nullptr, size, protection, MAP_SHARED, fd, offset);
  return Mapping(at == MAP_FAILED ? nullptr : at, Unmap{size});
}

struct CloseObject {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
struct DestroyLink {
  void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};

uint8_t call_kind(const SyscallRow& row) {
  switch (hub_share(row)) {
    case HubShare::kNothing:
      return PCACHE_CALL_NONE;
    case HubShare::kPaths:
      return row.meaning == Meaning::kOpen   ? PCACHE_CALL_OPEN
             : row.meaning == Meaning::kExec ? PCACHE_CALL_EXEC
                                             : PCACHE_CALL_LOOK;
    case HubShare::kWhole:
      return PCACHE_CALL_CWD;
    case HubShare::kTerminal:
      return PCACHE_CALL_TERMINAL;
    case HubShare::kDescriptors:
      return PCACHE_CALL_DESCRIPTOR;
    case HubShare::kClose:
      return PCACHE_CALL_CLOSE;
  }
  return PCACHE_CALL_NONE;
}

uint8_t told(const SyscallRow& row) {
  if (row.meaning == Meaning::kOpen) return PCACHE_TOLD_OPENS;
  if (row.name == "fcntl") return PCACHE_TOLD_DUPS;
  return row.trap == Trap::kTrace ? PCACHE_TOLD_ALWAYS : PCACHE_TOLD_NEVER;
}

CallEvent to_call_event(const pcache_event& event) {
  CallEvent call;
  call.tid = Tid{static_cast<pid_t>(event.tid)};
  call.number = event.number;
  call.row = &syscall_row(event.number);
  for (size_t i = 0; i < 4; ++i) call.args[i] = event.args[i];
  call.result = event.result;
  call.time_ns = static_cast<int64_t>(event.time_ns);
  call.unreadable = (event.flags & PCACHE_EVENT_UNREADABLE) != 0;
  call.below_fd = (event.flags & PCACHE_EVENT_BELOW_FD) != 0;
  call.returned = (event.flags & PCACHE_EVENT_RETURNED) != 0;
  if (call.returned) return call;
  const bool text = call.row->first.path >= 0 || call.row->meaning == Meaning::kWrite;
  if (text && !call.unreadable) call.first.emplace(event.text, event.size);
  return call;
}

class LoadedHub : public ProbeHub {
 public:
  ~LoadedHub() override;
  Result<void> load(uint32_t ring_bytes);
  std::unique_ptr<Feed> open() override;

  void close(uint32_t slot);
  bool watch(uint32_t slot, pid_t tid, uint32_t scope);
  void changed(uint32_t slot);
  void tell_results(uint32_t slot);
  void forget(pid_t tid);
  void mark(pid_t pid, uint64_t descriptors);
  bool drain(uint32_t slot, std::vector<CallEvent>* events);

 private:
  Result<void> map_memory();
  void fill_calls();
  void take_events();
  void detach_when_idle();

  std::unique_ptr<bpf_object, CloseObject> object_;
  bpf_program* program_ = nullptr;
  int threads_ = -1, marks_ = -1;
  Mapping lost_, changes_, consumer_, producer_;
  std::atomic<uint64_t>*consumed_ = nullptr, *produced_ = nullptr;
  const uint8_t* data_ = nullptr;
  uint32_t ring_bytes_ = 0;

  std::mutex lock_;  // a leaf
  std::unique_ptr<bpf_link, DestroyLink> link_;
  struct Slot {
    bool used = false;
    bool results = false;
    uint64_t lost = 0;
    std::vector<CallEvent> events;
  };
  std::array<Slot, PCACHE_SESSIONS> slots_;
  size_t open_ = 0;
  bool ends_ = false;
  std::condition_variable changed_;  // open_, ends_
  std::thread detacher_;
};

class SlotFeed : public ProbeHub::Feed {
 public:
  SlotFeed(LoadedHub& hub, uint32_t slot) : hub_(hub), slot_(slot) {}
  ~SlotFeed() override { hub_.close(slot_); }
  bool watch(pid_t tid, uint32_t scope) override { return hub_.watch(slot_, tid, scope); }
  void changed() override { hub_.changed(slot_); }
  void tell_results() override { hub_.tell_results(slot_); }
  void forget(pid_t tid) override { hub_.forget(tid); }
  void mark(pid_t pid, uint64_t descriptors) override { hub_.mark(pid, descriptors); }
  bool drain(std::vector<CallEvent>* events) override { return hub_.drain(slot_, events); }

 private:
  LoadedHub& hub_;
  const uint32_t slot_;
};

LoadedHub::~LoadedHub() {
  {
    const std::lock_guard guard(lock_);
    ends_ = true;
  }
  changed_.notify_all();
  if (detacher_.joinable()) detacher_.join();
}

// Attaching and detaching wait for the kernel's grace periods, tens of milliseconds: nobody who
// runs one command after another shall wait for them.
void LoadedHub::detach_when_idle() {
  constexpr std::chrono::milliseconds kIdle{250};
  std::unique_lock guard(lock_);
  while (!ends_) {
    changed_.wait(guard, [this] { return ends_ || (open_ == 0 && link_ != nullptr); });
    if (changed_.wait_for(guard, kIdle, [this] { return ends_ || open_ > 0; })) continue;
    link_.reset();
  }
}

Result<void> LoadedHub::load(uint32_t ring_bytes) {
  ring_bytes_ = ring_bytes;
  struct stat st {};
  if (::stat("/proc/self/ns/pid", &st) == 0 && st.st_ino != kFirstPidNamespace)
    return make_error(ErrorKind::kUnsupported, "thread ids differ in this pid namespace");
  libbpf_set_print([](libbpf_print_level, const char*, va_list) { return 0; });
  const size_t size = static_cast<size_t>(pcache_probe_end - pcache_probe_begin);
  object_.reset(bpf_object__open_mem(pcache_probe_begin, size, nullptr));
  if (!object_) return system_error("cannot read the BPF program");
  bpf_map* ring = bpf_object__find_map_by_name(object_.get(), "ring");
  if (ring == nullptr || bpf_map__set_max_entries(ring, ring_bytes) != 0)
    return make_error(ErrorKind::kUnsupported, "the BPF program has no ring");
  if (const int rc = bpf_object__load(object_.get()); rc != 0)
    return system_error("cannot load the BPF program", -rc);
  program_ = bpf_object__find_program_by_name(object_.get(), "on_call");
  threads_ = bpf_object__find_map_fd_by_name(object_.get(), "threads");
  marks_ = bpf_object__find_map_fd_by_name(object_.get(), "marks");
  if (program_ == nullptr || threads_ < 0 || marks_ < 0)
    return make_error(ErrorKind::kUnsupported, "the BPF program is not what it should be");
  PCACHE_TRY(map_memory());
  fill_calls();
  detacher_ = std::thread([this] { detach_when_idle(); });
  return {};
}

Result<void> LoadedHub::map_memory() {
  const int ring = bpf_object__find_map_fd_by_name(object_.get(), "ring");
  const int lost = bpf_object__find_map_fd_by_name(object_.get(), "lost");
  const int changes = bpf_object__find_map_fd_by_name(object_.get(), "changes");
  // The ring's memory: the consumer's page, the producer's page, the data twice in a row.
  consumer_ = map_shared(ring, kPage, PROT_READ | PROT_WRITE, 0);
  producer_ = map_shared(ring, kPage + 2 * uint64_t{ring_bytes_}, PROT_READ, kPage);
  lost_ = map_shared(lost, kPage, PROT_READ, 0);
  changes_ = map_shared(changes, kPage, PROT_READ | PROT_WRITE, 0);
  if (!consumer_ || !producer_ || !lost_ || !changes_)
    return system_error("cannot map the BPF ring");
  consumed_ = static_cast<std::atomic<uint64_t>*>(consumer_.get());
  produced_ = static_cast<std::atomic<uint64_t>*>(producer_.get());
  data_ = static_cast<const uint8_t*>(producer_.get()) + kPage;
  return {};
}

void LoadedHub::fill_calls() {
  const int calls = bpf_object__find_map_fd_by_name(object_.get(), "calls");
  const auto position = [](int8_t at) { return static_cast<uint8_t>(at < 0 ? 255 : at); };
  for (const SyscallRow& row : syscall_table()) {
    pcache_call call{};
    call.kind = call_kind(row);
    call.told = told(row);
    if (call.kind == PCACHE_CALL_NONE && call.told == PCACHE_TOLD_NEVER) continue;
    call.path = position(row.first.path);
    call.dirfd = position(row.first.dirfd);
    call.flags = position(row.flags);
    call.bits = position(row.meaning == Meaning::kAccess ? static_cast<int8_t>(row.first.path + 1)
                                                         : int8_t{-1});
    const uint32_t number = static_cast<uint32_t>(row.number);
    bpf_map_update_elem(calls, &number, &call, BPF_ANY);
  }
}

std::unique_ptr<ProbeHub::Feed> LoadedHub::open() {
  const std::lock_guard guard(lock_);
  for (uint32_t slot = 1; slot < PCACHE_SESSIONS; ++slot) {
    if (slots_[slot].used) continue;
    if (!link_) {
      link_.reset(bpf_program__attach_raw_tracepoint(program_, "sys_exit"));
      if (!link_) return nullptr;
    }
    slots_[slot].used = true;
    slots_[slot].results = false;
    slots_[slot].lost = static_cast<const uint64_t*>(lost_.get())[slot];
    changed(slot);  // nobody goes on where a former session has ended
    ++open_;
    changed_.notify_all();
    return std::make_unique<SlotFeed>(*this, slot);
  }
  return nullptr;
}

void LoadedHub::close(uint32_t slot) {
  const std::lock_guard guard(lock_);
  take_events();
  slots_[slot].used = false;
  slots_[slot].events.clear();
  if (--open_ == 0) changed_.notify_all();
}

void LoadedHub::changed(uint32_t slot) {
  static_cast<std::atomic<uint64_t>*>(changes_.get())[slot].fetch_add(1);
}

bool LoadedHub::watch(uint32_t slot, pid_t tid, uint32_t scope) {
  const uint32_t key = static_cast<uint32_t>(tid);
  const pcache_thread value{slot | (slots_[slot].results ? PCACHE_WANTS_RESULTS : 0), scope};
  return bpf_map_update_elem(threads_, &key, &value, BPF_ANY) == 0;
}

void LoadedHub::tell_results(uint32_t slot) { slots_[slot].results = true; }

void LoadedHub::forget(pid_t tid) {
  const uint32_t key = static_cast<uint32_t>(tid);
  bpf_map_delete_elem(threads_, &key);
}

void LoadedHub::mark(pid_t pid, uint64_t descriptors) {
  const uint32_t key = static_cast<uint32_t>(pid);
  if (descriptors == 0)
    bpf_map_delete_elem(marks_, &key);
  else
    bpf_map_update_elem(marks_, &key, &descriptors, BPF_ANY);
}

bool LoadedHub::drain(uint32_t slot, std::vector<CallEvent>* events) {
  const std::lock_guard guard(lock_);
  take_events();
  events->swap(slots_[slot].events);
  const uint64_t lost = static_cast<const volatile uint64_t*>(lost_.get())[slot];
  const bool complete = lost == slots_[slot].lost;
  slots_[slot].lost = lost;
  return complete;
}

// With the lock held. A record that is being written is waited for: what lies behind it may have
// happened before.
void LoadedHub::take_events() {
  const uint64_t until = produced_->load(std::memory_order_acquire);
  uint64_t at = consumed_->load(std::memory_order_relaxed);
  while (at < until) {
    const uint8_t* record = data_ + (at & (ring_bytes_ - 1));
    const auto* header = reinterpret_cast<const std::atomic<uint32_t>*>(record);
    uint32_t length = header->load(std::memory_order_acquire);
    while ((length & BPF_RINGBUF_BUSY_BIT) != 0) {
      ::sched_yield();
      length = header->load(std::memory_order_acquire);
    }
    const bool discarded = (length & BPF_RINGBUF_DISCARD_BIT) != 0;
    length &= ~static_cast<uint32_t>(BPF_RINGBUF_DISCARD_BIT);
    if (!discarded) {
      const auto& event = *reinterpret_cast<const pcache_event*>(record + BPF_RINGBUF_HDR_SZ);
      if (event.session < PCACHE_SESSIONS && slots_[event.session].used)
        slots_[event.session].events.push_back(to_call_event(event));
    }
    at += (length + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8;
    consumed_->store(at, std::memory_order_release);
  }
}

}  // namespace

Result<std::unique_ptr<ProbeHub>> ProbeHub::create(uint32_t ring_bytes) {
  auto hub = std::make_unique<LoadedHub>();
  PCACHE_TRY(hub->load(ring_bytes));
  return hub;
}

#else

Result<std::unique_ptr<ProbeHub>> ProbeHub::create(uint32_t) {
  return make_error(ErrorKind::kUnsupported, "this build has no eBPF");
}

#endif

}  // namespace pcache::tracer
