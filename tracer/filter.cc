// The seccomp filter, made from the system-call table with libseccomp.
//
// Arguments are compared where that keeps calls from stopping: an open that cannot change anything
// is a notification, one that can is a stop; reads count on descriptor 0 only. Calls of another
// architecture (int 0x80, x32) stop always: their numbers mean something else.
#include <fcntl.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <tuple>
#include <vector>

#include "store/unique_fd.h"
#include "tracer/probe_hub.h"
#include "tracer/session.h"
#include "tracer/syscall_table.h"

namespace pcache::tracer {
namespace {

// Where scripts keep a copy of stdin (`exec 7<&0`); 3 and 4 are what every program reads from.
constexpr int kFirstKept = 5, kLastKept = 9;
constexpr int kHighestNumber =
    1023;  // every number up to here that is not in the table is reported
constexpr unsigned kDupCommands[] = {F_DUPFD, F_DUPFD_CLOEXEC};
constexpr unsigned long kTerminalRequests[] = {TCGETS,     TCSETS,    TCSETSW,   TCSETSF, TIOCSTI,
                                               TIOCSWINSZ, TIOCSCTTY, TIOCNOTTY, FIONREAD};

class FilterBuilder {
 public:
  // `changes`: what becomes of calls whose result matters too.
  explicit FilterBuilder(uint32_t changes)
      : before_and_after(changes), context_(seccomp_init(SCMP_ACT_ALLOW), &seccomp_release) {}

  const uint32_t before_and_after;

  bool ok() const { return context_ != nullptr && failure_ == 0; }
  int failure() const { return failure_; }
  scmp_filter_ctx get() const { return context_.get(); }

  void attribute(scmp_filter_attr name, uint32_t value) {
    note(seccomp_attr_set(context_.get(), name, value));
  }
  void always(uint32_t action, int number) {
    note(seccomp_rule_add(context_.get(), action, number, 0));
  }
  void when(uint32_t action, int number, const std::vector<scmp_arg_cmp>& all_of) {
    note(seccomp_rule_add_array(context_.get(), action, number,
                                static_cast<unsigned>(all_of.size()), all_of.data()));
  }

 private:
  void note(int result) {
    if (result < 0 && failure_ == 0) failure_ = -result;
  }
  std::unique_ptr<void, decltype(&seccomp_release)> context_;
  int failure_ = 0;
};

scmp_arg_cmp masked(unsigned arg, uint64_t mask, uint64_t value) {
  return {arg, SCMP_CMP_MASKED_EQ, mask, value};
}

// Opens that can change something stop before and after.
void add_open(FilterBuilder& filter, const SyscallRow& row) {
  const unsigned flags = static_cast<unsigned>(row.flags);
  for (const uint64_t bit : {O_WRONLY, O_RDWR, O_CREAT, O_TRUNC})
    filter.when(filter.before_and_after, row.number, {masked(flags, bit, bit)});
}

scmp_arg_cmp only_looks(const SyscallRow& row) {
  return masked(static_cast<unsigned>(row.flags), O_WRONLY | O_RDWR | O_CREAT | O_TRUNC, 0);
}

// What the hub (probe_hub.h) leaves to the filter: look-ups below a descriptor, what happens on
// standard streams, what changes a terminal.
bool add_beside_hub(FilterBuilder& filter, const SyscallRow& row) {
  const auto is = [](unsigned arg, uint64_t value) { return masked(arg, 0xffffffff, value); };
  const unsigned dirfd = static_cast<unsigned>(std::max<int>(row.first.dirfd, 0));
  const scmp_arg_cmp is_descriptor = masked(dirfd, 0x80000000, 0);  // AT_FDCWD is negative
  switch (hub_share(row)) {
    case HubShare::kNothing:
      return false;
    case HubShare::kWhole:
    case HubShare::kClose:
      return true;
    case HubShare::kTerminal:
      for (const unsigned long request : kTerminalRequests)
        if (request != TCGETS) filter.when(SCMP_ACT_NOTIFY, row.number, {is(1, request)});
      return true;
    case HubShare::kDescriptors:
      filter.when(SCMP_ACT_NOTIFY, row.number, {is(0, 0)});
      if (row.meaning == Meaning::kRead && row.name != "lseek") return true;
      filter.when(SCMP_ACT_NOTIFY, row.number, {is(0, 1)});
      filter.when(SCMP_ACT_NOTIFY, row.number, {is(0, 2)});
      return true;
    case HubShare::kPaths:
      break;
  }
  if (row.first.dirfd < 0) return true;
  if (row.meaning == Meaning::kOpen) {
    filter.when(SCMP_ACT_NOTIFY, row.number, {is_descriptor, only_looks(row)});
  } else if (row.meaning == Meaning::kStat) {
    const unsigned flags = static_cast<unsigned>(row.flags);
    filter.when(SCMP_ACT_NOTIFY, row.number, {is_descriptor, masked(flags, AT_EMPTY_PATH, 0)});
    for (const uint64_t fd : {0, 1, 2})  // fstat(0)
      filter.when(SCMP_ACT_NOTIFY, row.number, {is(dirfd, fd)});
  } else {
    filter.when(SCMP_ACT_NOTIFY, row.number, {is_descriptor});
  }
  return true;
}

void add_row(FilterBuilder& filter, const SyscallRow& row, const std::set<int>& watched,
             bool with_hub, bool clocks) {
  if (row.meaning == Meaning::kClock && clocks) return filter.always(SCMP_ACT_NOTIFY, row.number);
  if (row.meaning == Meaning::kOpen) add_open(filter, row);
  if (with_hub && add_beside_hub(filter, row)) return;
  switch (row.meaning) {
    case Meaning::kOpen:
      filter.when(SCMP_ACT_NOTIFY, row.number, {only_looks(row)});
      return;
    case Meaning::kRead:
      filter.when(SCMP_ACT_NOTIFY, row.number, {masked(0, 0xffffffff, 0)});
      if (row.name == "lseek") {
        filter.when(SCMP_ACT_NOTIFY, row.number, {masked(0, 0xffffffff, 1)});
        filter.when(SCMP_ACT_NOTIFY, row.number, {masked(0, 0xffffffff, 2)});
        return;
      }
      for (const int fd : watched)
        filter.when(SCMP_ACT_NOTIFY, row.number,
                    {masked(0, 0xffffffff, static_cast<uint64_t>(fd))});
      return;
    case Meaning::kFstat:
      for (const uint64_t fd : {0, 1, 2})
        filter.when(SCMP_ACT_NOTIFY, row.number, {masked(0, 0xffffffff, fd)});
      return;
    case Meaning::kMap:
      filter.when(SCMP_ACT_NOTIFY, row.number, {masked(4, 0xffffffff, 0)});
      return;
    case Meaning::kSend:
      // The client hands its listener over by this call, before anyone answers (cli/wire.cc).
      if (row.name != "sendmsg") break;
      filter.when(SCMP_ACT_NOTIFY, row.number,
                  {{2, SCMP_CMP_NE, MSG_NOSIGNAL | MSG_CONFIRM | MSG_EOR, 0}});
      return;
    case Meaning::kPrctl:
      filter.when(SCMP_ACT_NOTIFY, row.number, {masked(0, 0xffffffff, PR_SET_DUMPABLE)});
      return;
    case Meaning::kRandom:
      filter.when(SCMP_ACT_NOTIFY, row.number, {masked(2, GRND_NONBLOCK, 0)});
      return;
    case Meaning::kIoctl:
      for (const unsigned long request : kTerminalRequests)
        filter.when(SCMP_ACT_NOTIFY, row.number, {masked(1, 0xffffffff, request)});
      return;
    case Meaning::kDup:
      if (row.name != "fcntl") break;
      for (const unsigned command : kDupCommands)
        filter.when(filter.before_and_after, row.number, {masked(1, 0xffffffff, command)});
      return;
    default:
      break;
  }
  if (row.trap == Trap::kNotify) filter.always(SCMP_ACT_NOTIFY, row.number);
  if (row.trap == Trap::kTrace) filter.always(filter.before_and_after, row.number);
}

// For a watcher: what means something, with its result, and where descriptors come from.
void add_watched_row(FilterBuilder& filter, const SyscallRow& row) {
  static constexpr std::string_view kOrigins[] = {"socket",  "socketpair", "accept",
                                                  "accept4", "pipe",       "pipe2"};
  const bool origin =
      std::find(std::begin(kOrigins), std::end(kOrigins), row.name) != std::end(kOrigins);
  if ((row.meaning == Meaning::kHarmless && !origin) || row.meaning == Meaning::kClock ||
      row.meaning == Meaning::kClone3 || row.name == "lseek")
    return;
  if (row.name == "sendmsg")  // see add_row
    filter.when(SCMP_ACT_TRACE(1), row.number,
                {{2, SCMP_CMP_NE, MSG_NOSIGNAL | MSG_CONFIRM | MSG_EOR, 0}});
  else if (row.meaning == Meaning::kMap)
    filter.when(SCMP_ACT_TRACE(1), row.number, {masked(3, MAP_ANONYMOUS, 0)});
  else
    filter.always(SCMP_ACT_TRACE(1), row.number);
}

// What becomes of each call: `add` makes the rules of one row.
template <class Add>
Result<std::string> make_program(uint32_t before_and_after, uint32_t unknown, Add add) {
  FilterBuilder filter(before_and_after);
  if (!filter.ok()) return make_error(ErrorKind::kUnsupported, "cannot make a seccomp filter");
  const bool stops = before_and_after != SCMP_ACT_NOTIFY;
  filter.attribute(SCMP_FLTATR_ACT_BADARCH, stops ? SCMP_ACT_TRACE(2) : SCMP_ACT_NOTIFY);
  filter.attribute(SCMP_FLTATR_CTL_OPTIMIZE, 2);
  for (const SyscallRow& row : syscall_table()) add(filter, row);
  for (int number = 0; number <= kHighestNumber; ++number)
    if (syscall_row(number).meaning == Meaning::kUnknown) filter.always(unknown, number);
  if (!filter.ok()) return system_error("cannot make a seccomp filter", filter.failure());

  UniqueFd file(::memfd_create("pcache-filter", MFD_CLOEXEC));
  if (!file) return system_error("cannot make a seccomp filter");
  if (const int rc = seccomp_export_bpf(filter.get(), file.get()); rc < 0)
    return system_error("cannot export the seccomp filter", -rc);
  const off_t size = ::lseek(file.get(), 0, SEEK_END);
  std::string program(static_cast<size_t>(size), '\0');
  if (::pread(file.get(), program.data(), program.size(), 0) != size)
    return system_error("cannot read the seccomp filter");
  return program;
}

}  // namespace

// Making one takes milliseconds; most commands are given no descriptors.
Result<std::string> filter_program(const std::vector<int>& given, FilterKind kind, bool clocks) {
  static std::mutex lock;
  static std::map<std::tuple<std::vector<int>, FilterKind, bool>, std::string> made;
  const std::lock_guard guard(lock);
  const auto key = std::make_tuple(given, kind, clocks);
  if (const auto known = made.find(key); known != made.end()) return known->second;
  std::set<int> watched(given.begin(), given.end());
  for (int fd = kFirstKept; fd <= kLastKept; ++fd) watched.insert(fd);
  const uint32_t changes = kind == FilterKind::kSeized ? SCMP_ACT_NOTIFY : SCMP_ACT_TRACE(1);
  Result<std::string> program =
      make_program(changes, SCMP_ACT_NOTIFY, [&](FilterBuilder& filter, const SyscallRow& row) {
        add_row(filter, row, watched, kind != FilterKind::kAlone, clocks);
      });
  if (program) made[key] = *program;
  return program;
}

Result<std::string> watch_filter_program() {
  static const Result<std::string> program =
      make_program(SCMP_ACT_TRACE(1), SCMP_ACT_TRACE(1), add_watched_row);
  return program;
}

}  // namespace pcache::tracer
