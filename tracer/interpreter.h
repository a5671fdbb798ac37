// Interpreter: what each reported call means for the ledger. One case for each Meaning of the
// table.
//
// Entered by the probe source (its own thread) and by the tracer thread; takes the session's lock.
// What may fault or block in the tracee (reading its memory) is done before the lock is taken,
// except for small structures and written bytes, which are read with it: no FUSE handler takes this
// lock.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>

#include "store/environment.h"
#include "tracer/ledger.h"
#include "tracer/lineage.h"
#include "tracer/probe_source.h"
#include "tracer/resolver.h"
#include "tracer/spool.h"

namespace pcache::tracer {

class Interpreter : public CallSink {
 public:
  Interpreter(std::mutex& lock, Lineage& lineage, Ledger& ledger, Resolver& resolver, Spool& spool);

  // A source whose events are drained before each call that is seen as it happens.
  void drain_first(ProbeSource* source) { asynchronous_ = source; }
  // With the lock held: every look-up until now is accounted for, or nobody is recorded.
  void drain();

  Answer on_call(const CallEvent& event) override;
  void on_result(const CallEvent& event, int64_t result) override;
  void on_observed(const CallEvent& event) override;

  // Of calls that change something only the start is told; the source that is drained tells how
  // they ended (CallEvent::returned).
  void results_come_later() { results_later_ = true; }

  // --- also used by the session, with the lock held ---
  // Facts of finding a path: links crossed, directories left by "..".
  void observe_way(Execution& e, const Resolved& resolved);
  // Bytes written to a standard stream by a process, or by the hit of a child (`size` bytes at
  // spool `offset`).
  void stream_written(Process& process, const std::shared_ptr<StreamTag>& tag, uint64_t offset,
                      uint64_t size);
  bool wants_stream(const Process& process, const std::shared_ptr<StreamTag>& tag) const;
  // What its standard stream is, as `e` and those above it know it (kTerminal, kStream).
  void observe_stream(Execution& e, store::FactKind kind, const StreamTag* tag);
  // Descriptor 0 was read, mapped, sought or handed on.
  void stdin_used(Process& process, int fd);
  // What `thread` wrote last is not known to have arrived.
  void writing_failed(const Thread& thread, const std::string& code, const std::string& detail);
  // Variables that the keys of `e` or its ancestors leave out are looked at.
  void environment_read(Execution& e, const store::EnvironmentReads& reads);
  // Tells the asynchronous source which descriptors above 2 are of matter.
  void mark_descriptors(const Process& process);
  // Starts watching the imports of a python image, with the directories its modules lie in.
  void watch_imports(Execution& e, Process& process);
  // The exec of `process` succeeded; its own execution is still that of the caller.
  void executed(Tid tid, Process& process);
  // What it has shared and not taken away again outlives it.
  void end_shared_memory(Execution& e);
  // What of its listings was no import after all becomes a full fact.
  void end_imports(Execution& e);
  Resolved resolve(Tid tid, Process& process, const std::string& base, const std::string& path,
                   bool follow);

 private:
  struct Caller {
    Tid tid;
    Process& process;
    Execution& e;
  };
  // State between the two stops of a call that changes something.
  struct Pending {
    Resolved first, second;
    Before before_first, before_second;
    bool first_is_fd = false;
    // Read of the caller as the call begins.
    uint64_t flags = 0;
    uint32_t mode = 0, umask = 0;
    std::string xattr;
    timespec times[2] = {};
  };
  enum class Special : uint8_t { kOrdinary, kNoFact, kPseudo, kHandled };

  // interpreter.cc
  Answer dispatch(const Caller& c, const CallEvent& event);
  const std::string& cwd_of(const Caller& c) const;
  std::optional<std::string> base_of(const Caller& c, const CallEvent& event, const PathArg& arg,
                                     const std::optional<std::string>& path) const;
  std::optional<Resolved> resolve_arg(const Caller& c, const CallEvent& event, bool second,
                                      bool follow);
  std::optional<Resolved> resolve_fd(const Caller& c, int fd);
  // Looks at what pcache shows of itself, whatever of it.
  void refuse_view(Execution& e, const store::TreePath& path);
  bool in_own_view(const store::TreePath& path) const;
  bool nothing_new(const Caller& c, const CallEvent& event, uint64_t salt);
  // What is there now is what an asynchronous source's call has met; else the caller is refused.
  void check_answer(const Caller& c, const CallEvent& event, const Resolved& at);

  // interpret_lookups.cc
  void on_open_read(const Caller& c, const CallEvent& event, uint64_t flags);
  void on_stat(const Caller& c, const CallEvent& event);
  void on_access(const Caller& c, const CallEvent& event);
  void on_read_link(const Caller& c, const CallEvent& event);
  void on_exec(const Caller& c, const CallEvent& event);
  void on_chdir(const Caller& c, const CallEvent& event);
  void on_statfs(const Caller& c, const CallEvent& event);
  void on_xattr(const Caller& c, const CallEvent& event, bool list);
  void on_getdents(const Caller& c, const CallEvent& event);
  Special special(const Caller& c, const Resolved& resolved, bool opens, bool writes,
                  bool startup_tty_open = false);
  // Rule 13: true when `resolved` is python's own cache of a module.
  bool python_cache(const Caller& c, const Resolved& resolved);
  void observe_identity(const Caller& c, const Resolved& resolved);
  bool opened_too_long_ago(const Caller& c, const Resolved& at);
  void observe_kind(const Caller& c, const Resolved& resolved);
  void observe_opened(const Caller& c, const Resolved& resolved);

  // interpret_scripts.cc
  void script_read(const Caller& c, const Resolved& at);
  // A compiler reads a source that asks for the time (rule 12).
  void source_read(const Caller& c, const Resolved& at);
  std::optional<std::string> text_of(const Resolved& at) const;

  // interpret_random.cc
  void on_random(const Caller& c, const CallEvent& event);
  void python_opens(const Caller& c, const Resolved& at);
  void python_source(const Caller& c, const Resolved& at);

  // interpret_imports.cc
  void list_whole(Execution& e, const ImportWatch::Listings& listings);
  void import_stat(const Caller& c, const Resolved& at);
  void import_open(const Caller& c, const Resolved& at);
  void import_other(const Caller& c);
  void import_listing(const Caller& c, const store::TreePath& dir);

  // interpret_changes.cc
  void returned(const CallEvent& event, int64_t result);
  Answer before_change_call(const Caller& c, const CallEvent& event);
  void observe_room_for(const Caller& c, const Resolved& name);
  void read_arguments(const Caller& c, const CallEvent& event, Pending* pending) const;
  void after_open(const Caller& c, const Pending& p, int64_t result);
  void refuse_where_held(const Caller& c, const store::TreePath& path);
  void after_rename(const Caller& c, const Pending& p);
  void after_change(const Caller& c, const CallEvent& event, const Pending& p);
  void after_failure(const Caller& c, const CallEvent& event, const Pending& p, int error);
  void apply(const Caller& c, ChangeKind kind, const Resolved& at, const Before& before,
             uint32_t create_mode = 0);
  Change make_change(const Caller& c, ChangeKind kind, const Resolved& at, const Before& before);
  uint64_t open_flags(const CallEvent& event) const;
  uint32_t open_mode(const CallEvent& event) const;

  // interpret_descriptors.cc
  void descriptor_examined(const Caller& c, const CallEvent& event);  // by fstat
  void on_write(const Caller& c, const CallEvent& event);
  // Told after the fact: of a descriptor above 2, with its bytes where they are few.
  void written_above(const Caller& c, const CallEvent& event);
  bool keep_written(Process& process, const std::shared_ptr<StreamTag>& tag,
                    const CallEvent& event);
  static void forget_descriptor(Process& process, int fd);
  void written(const Caller& c, int fd, const std::vector<std::pair<uint64_t, uint64_t>>& pieces);
  Answer on_transfer(const Caller& c, const CallEvent& event);
  void after_dup(const Caller& c, const CallEvent& event, int64_t result);
  void on_ioctl(const Caller& c, const CallEvent& event);
  void on_send(const Caller& c, const CallEvent& event);
  void on_signal(const Caller& c, const CallEvent& event);
  void on_clone3(const Caller& c, const CallEvent& event);
  void on_affinity(const Caller& c);
  std::shared_ptr<StreamTag> stream_of(const Caller& c, int fd) const;
  // Refuses every execution whose standard stream descriptor `fd` is, and those that were given it.
  void refuse_stream_users(const Caller& c, int fd, const std::string& code,
                           const std::string& detail);
  void refuse_tag_users(const Caller& c, const StreamTag& tag, const std::string& code,
                        const std::string& detail);
  void refuse_inherited_users(const Caller& c, int fd, const std::string& code,
                              const std::string& detail);
  void on_seek(const Caller& c, const CallEvent& event);

  // interpret_local.cc
  std::optional<std::string> socket_path(const Caller& c, const CallEvent& event);
  void on_connect(const Caller& c, const CallEvent& event);
  void before_bind(const Caller& c, const CallEvent& event);
  void after_accept(const Caller& c, int fd);
  void before_shared_memory(const Caller& c, const CallEvent& event);
  void after_shared_memory(const Caller& c, int64_t result);

  // Of System V, by its number.
  struct SharedMemory {
    ExecutionId owner;
    bool removed;
  };

  std::mutex& lock_;
  Lineage& lineage_;
  Ledger& ledger_;
  Resolver& resolver_;
  Spool& spool_;
  ProbeSource* asynchronous_ = nullptr;
  std::unordered_map<pid_t, Pending> pending_;  // by thread
  bool results_later_ = false;
  std::unordered_map<pid_t, std::string> going_to_;  // by thread: what its chdir names
  std::set<pid_t> connected_;  // who connected to a socket that was made within
  std::map<int, SharedMemory> shared_memory_;
  std::unordered_map<pid_t, CallEvent> told_;  // by thread: its last call, where results come later
};

}  // namespace pcache::tracer
