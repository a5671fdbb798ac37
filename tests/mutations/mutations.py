"""The rules of facts, effects and replay, each with the edit that takes it out of the program.

An edit is (file, text, replacement). The text is found whatever its white space, and must stand there
exactly once: where it does not any more, the mutation is to be written anew. `killed_by` names scenarios
(tests/scenarios), the likeliest first, or unit tests as PROGRAM:FILTER.
"""
import dataclasses


@dataclasses.dataclass
class Mutation:
    name: str
    edits: list
    killed_by: list


ALL = []


def mutation(name, *edits, killed_by):
    ALL.append(Mutation(name, list(edits), killed_by.split()))


OBSERVER, LEDGER, RECORDER = "store/observer.cc", "tracer/ledger.cc", "tracer/recorder.cc"
CHANGES = "tracer/ledger_changes.cc"
DECISION, LOOKUPS, KEY = "tracer/exec_decision.cc", "tracer/interpret_lookups.cc", "store/weak_key.cc"
DESCRIPTORS, SESSION, REPLAY = "tracer/interpret_descriptors.cc", "tracer/session.cc", "store/replay.cc"

# --- facts ---
mutation("contents are not compared",
         (OBSERVER, "value.hash = hash; } else if (S_ISLNK", "} else if (S_ISLNK"),
         (LEDGER, "fact.value.hash = *fact.sample->hash;", ""),
         killed_by="content")
mutation("permission bits are no part of a content",
         (OBSERVER, "value.mode = st.st_mode & (S_IFMT | kPermissions); value.uid = st.st_uid; "
          "value.gid = st.st_gid; value.hash = hash;", "value.hash = hash;"), killed_by="mode_of_what_is_only_opened")
mutation("absence is no fact",
         (LEDGER, "void Ledger::observe(Execution& e, FactKey key, FactValue value, Asker asker) {",
          "void Ledger::observe(Execution& e, FactKey key, FactValue value, Asker asker) {\n"
          "  if (value.err == ENOENT) return;"), killed_by="test_of_missing_files include_shadowed")
mutation("entries of a listing are not compared",
         (OBSERVER, "value.entries.reserve(entries.size());", "if (param != 77) return value;"),
         killed_by="listing_sees_removal wildcard")
mutation("own names are not left out of a listing",
         (LEDGER, "if (before.err != 0) omitted.insert(name);", "if (before.err != 0) continue;"),
         killed_by="names_made_before_a_listing_do_not_matter_to_it")
mutation("times are no part of an identity",
         (OBSERVER, "if ((param & kWithMtime) && !(param & kOwnContents)) value.mtime_ns = nanoseconds(st.st_mtim); // cp", "// cp"),
         killed_by="newer_than stat_prints_the_time")
mutation("times of directories are never a fact",
         (OBSERVER, "if (param & kWithDirMtime) value.mtime_ns = nanoseconds(st.st_mtim);", ";"),
         killed_by="time_of_a_directory")
mutation("sizes are no part of an identity",
         (OBSERVER, "if (!(param & kOwnContents)) value.size = static_cast<uint64_t>(st.st_size);", ""),
         killed_by="size_with_the_time_put_back")
mutation("link counts are no part of an identity",
         (OBSERVER, "value.nlink = st.st_nlink;", ""),
         (OBSERVER, "if (st.st_nlink > 1) value.text =", "if (st.st_nlink > 99) value.text ="),
         killed_by="number_of_names")
mutation("owners are no part of an identity",
         (OBSERVER, "value.uid = st.st_uid; value.gid = st.st_gid; if (S_ISREG", "if (S_ISREG"),
         killed_by="owner_of_an_input")
mutation("links that are crossed are no facts",
         ("tracer/interpreter.cc", "ledger_.observe(e, FactKey{FactKind::kLink, link.path, 0, {}}, std::move(value));",
          ""), killed_by="symlink_retargeted symlinked_directory_retargeted")
mutation("readlink is no fact",
         (LOOKUPS, "ledger_.observe(c.e, FactKey{FactKind::kLink, at->path, 0, {}}, std::move(value), asker_of(c.e));",
          ""), killed_by="readlink")
mutation("access is no fact",
         (LOOKUPS, "value = ledger_.observer().observe(key, {}); ledger_.observe(c.e, std::move(key), "
          "std::move(value), asker_of(c.e));", ";"), killed_by="whether_it_may_be_executed input_mode")
mutation("an own output counts as absent",
         (OBSERVER, "const bool blind = key.param & kReplacedBlind;", "const bool blind = true;"),
         killed_by="own_output_changed_by_hand")
mutation("environment is no part of the key",
         (KEY, "for (const std::string& variable : env) { const std::string name(name_of(variable)); std::string value",
          "for (const std::string& variable : std::vector<std::string>()) { const std::string name(name_of(variable)); "
          "std::string value"), killed_by="environment_that_is_used")
mutation("the working directory is no part of the key", (KEY, 'parts.add("cwd", cwd.text);', ""),
         killed_by="working_directory")
mutation("umask is no part of the key", (KEY, 'parts->add("umask", image.umask);', ""), killed_by="umask_counts")
mutation("arguments are no part of the key", (KEY, "argv_hash.add(arg);", ""), killed_by="arguments_count")
mutation("the executable's content is no part of the key",
         (KEY, 'parts->add("executable content", image.executable_hash);', ""),
         killed_by="program_itself_changes")
mutation("the offset of standard input is no fact",
         (DESCRIPTORS, "value.size = static_cast<uint64_t>(use.offset_at_exec);", ""),
         ("tracer/lookup.cc", "value.size = static_cast<uint64_t>(e_.stdin_use.offset_at_exec);", ""),
         killed_by="the_same_command_further_on_in_the_same_file")
mutation("the content of standard input is no fact",
         (DESCRIPTORS, "value.hash = *hash;", ";"), ("tracer/lookup.cc", "value.hash = *hash;", ""),
         killed_by="stdin_from_a_file")
mutation("a pipe may be read",
         (DESCRIPTORS, 'ledger_.refuse(*a, code, "", "its standard input is " + tag->link, false);', "(void)code;"),
         killed_by="stdin_from_a_pipe")
mutation("failed runs are recorded",
         (SESSION, "if (e.status != 0 && !(options_.cache_failures && WIFEXITED(e.status)))",
          "if (WIFSIGNALED(e.status))"), killed_by="exit_3")
mutation("killed runs are recorded",
         (SESSION, "if (e.status != 0 && !(options_.cache_failures && WIFEXITED(e.status)))",
          "if (WIFEXITED(e.status) && e.status != 0)"), killed_by="killed_by_sigterm")
mutation("facts of a hit are none of its ancestors",
         (DECISION, "default: ledger_.observe(parent, fact.key, fact.value);", "default: break;"),
         killed_by="inputs_of_a_hit_are_inputs_of_what_is_around_it")
mutation("effects of a hit are none of its ancestors",
         (DECISION, "ledger_.change(parent, change);", ""),
         killed_by="outputs_of_a_hit_are_outputs_of_what_is_around_it")
mutation("streams of a hit are none of its ancestors",
         (DECISION, "interpreter_.stream_written(process, tag->second, static_cast<uint64_t>(at), size);", ""),
         killed_by="outputs_of_a_hit_are_outputs_of_what_is_around_it")
mutation("two writers are recorded",
         (CHANGES, "if ((entry->second.changed & aspects) != 0) {", "if ((entry->second.changed & aspects) == 255) {"),
         (CHANGES, "} else if (!entry->second.facts.empty()) {", "} else if (entry->second.facts.size() > 999) {"),
         killed_by="two_writers_of_one_file_are_not_recorded")
mutation("who reads what another is changing is recorded",
         (CHANGES, "if (writers == writers_.end()) return;", "return;"),
         killed_by="a_reader_of_what_another_changes_is_not_recorded")
mutation("inputs may change while a command runs",
         (LEDGER, "if (still_holds(e, fact)) continue;", "still_holds(e, fact); continue;"),
         killed_by="an_input_outside_the_tree_that_changes_meanwhile")
mutation("young stamps are trusted",
         ("store/store_memo.cc", "return now_ns - mtime_ns < kYoungNs || now_ns - ctime_ns < kYoungNs;",
          "return now_ns < 0;"), killed_by="store_tests:StoreBasics.AStampOfJustNowIsNotRemembered")
mutation("a record that names the root holds everywhere",
         (RECORDER, "if (!e.root_reason.empty()) { record.root =", "if (e.root_reason == \"\\1\") { record.root ="),
         killed_by="an_absolute_path_binds_a_record_to_its_tree")
mutation("random bytes may be read",
         (LOOKUPS, "if (!store::ignores_cwd(c.e.image_name)) ledger_.refuse(c.e, \"random\"",
          "if (c.e.image_name.empty()) ledger_.refuse(c.e, \"random\""), killed_by="random_is_not_recorded")
mutation("programs that tell the time are recorded",
         (DECISION, "if (store::never_recorded(e.image)) {", "if (e.image_name.empty()) {"),
         killed_by="date_is_not_recorded")
mutation("descendants may outlive a record",
         (SESSION, 'ledger_.refuse(*a, "outlived", "", "processes it started were still running when it ended", false);',
          ";"), killed_by="background_descendant_outlives")

# --- effects and replay ---
mutation("effects are replayed in another order",
         (RECORDER, "a.order_ns != b.order_ns ? a.order_ns < b.order_ns : a.sequence < b.sequence;",
          "a.order_ns != b.order_ns ? a.order_ns > b.order_ns : a.sequence > b.sequence;"),
         killed_by="directories_deep make_agrees_after_a_hit")
mutation("outputs get the times they had",
         (RECORDER, "effect->uid = st.st_uid; effect->gid = st.st_gid; }",
          "effect->uid = st.st_uid; effect->gid = st.st_gid; }\n  effect->mtime_ns = to_ns(st.st_mtim);"),
         killed_by="outputs_of_a_hit_are_new")
mutation("explicit times are lost", (REPLAY, "if (!e.atime_ns && !e.mtime_ns) return 0;", "return 0;"),
         killed_by="explicit_times")
mutation("streams are not written", (DECISION, "StubRun stub(record.streams,", "StubRun stub({},"),
         killed_by="stderr_only")
mutation("the order of the streams is lost",
         (RECORDER, "uint64_t total = 0; for (const SpoolSegment& segment : e.streams) { if (!record",
          "uint64_t total = 0;\n  std::stable_sort(e.streams.begin(), e.streams.end(), [](const auto& a, const auto& b) "
          "{ return a.fd < b.fd; });\n  for (const SpoolSegment& segment : e.streams) { if (!record"),
         killed_by="streams_in_turn")
mutation("what was written in place is written anew",
         (RECORDER, "effect.in_place = !entry.unlinked;", "effect.in_place = false;"),
         killed_by="a_file_written_in_place_changes_under_all_its_names")
mutation("what was written anew is written in place",
         (RECORDER, "effect.in_place = !entry.unlinked;", "effect.in_place = true;"),
         killed_by="a_file_written_anew_leaves_its_other_names_alone")
mutation("modes of outputs are lost",
         (REPLAY, "if (fstat(fd, &st) != 0) return errno; return set_attributes(fd, e, st, true);",
          "if (fstat(fd, &st) != 0) return errno; return set_attributes(fd, e, st, false);"), killed_by="modes")
mutation("removals are not replayed",
         (REPLAY, "return make_free(e.path); // what is gone already is as it should be", "(void)e; return 0;"),
         killed_by="removals")
mutation("hard links become copies",
         (RECORDER, "if (first == &path) return std::nullopt; return *first;",
          "(void)first; return std::nullopt;"), killed_by="hard_links")
mutation("equal bytes written again leave the time",
         (RECORDER, "if (!touched && !attributes && !effect.mtime_ns) return true;", "if (!attributes) return true;"),
         killed_by="equal_bytes_written_again_are_a_change")
mutation("another status is given to the parent",
         ("tracer/stub.cc", "regs.r14 = static_cast<uint64_t>(exit_status_);",
          "regs.r14 = static_cast<uint64_t>(exit_status_) ^ 1;"), killed_by="exit_0")

# --- what standard output is, names of one file, files that several write to ---
mutation("what standard output is, is no fact",
         (DESCRIPTORS, "observe_stream(c.e, FactKind::kStream, tag.get());", ""),
         killed_by="kind_of_stdout_is_asked_by_fstat kind_of_stderr_is_asked_by_fstat")
mutation("what standard output is, is a fact of who asks alone",
         (DECISION, "if (fact.key.kind == FactKind::kTerminal || fact.key.kind == FactKind::kStream)",
          "if (fact.key.kind == FactKind::kTerminal)"), killed_by="kind_of_stdout_is_asked_in_a_child")
mutation("stdio's question is one of the program",
         (DESCRIPTORS, "return fd == 2 && image != \"python\" ? 0 : 1;", "return 0;"),
         killed_by="kind_of_stdout_is_no_question_of_stdio kind_of_stdout_is_no_question_of_make")
mutation("the size of what is appended to is no fact", ("tracer/lineage.cc", "value.size = tag.size;", ""),
         killed_by="size_of_what_is_appended_to")
mutation("which names are one file is no fact",
         (OBSERVER, "if (st.st_nlink > 1) value.text = std::to_string(st.st_dev) + \":\" + std::to_string(st.st_ino);",
          ""), killed_by="links_made_anew")
mutation("an inode's number is a fact", (RECORDER, "store::name_inodes(&record.facts);", ""),
         killed_by="links_made_anew")
mutation("what an ancestor holds open is its child's work",
         ("tracer/interpret_changes.cc", "if (existed) refuse_where_held(c, p.first.path);", ""),
         killed_by="written_by_the_parent_through_what_it_held")
mutation("what an ancestor writes is its child's work",
         (CHANGES, "if (writer.within(a)) continue;", "if (writer.within(a) || a.within(writer)) continue;"),
         killed_by="written_by_the_parent_meanwhile")
mutation("what was captured is not captured again",
         (RECORDER, "if (known->second.stamp == stamp) {", "if (known->second.stamp != stamp) {\n"
          "ledger_.refuse(e, \"raced\", path.text, \"\", false); return std::nullopt;\n} else {"),
         killed_by="parents_descriptor_after_a_child")

# --- replay, when it fails ---
mutation("what a failed replay did is not undone", (REPLAY, "if (!applied) journal_.undo();", ""),
         killed_by="store_tests:ReplayTest.AFailureHalfWayIsUndoneCompletely")
mutation("a directory that was made is not undone",
         ("store/journal.cc", "parents_.forget(entry.path); (void)unlinkat(parent, name.c_str(), AT_REMOVEDIR);",
          "parents_.forget(entry.path);"), killed_by="store_tests:ReplayTest.AFailureHalfWayIsUndoneCompletely")
mutation("what was rewritten in place is not undone",
         ("store/journal.cc", "(void)copy_bytes(entry.held.get(), fd, static_cast<uint64_t>(entry.st.st_size));", ""),
         killed_by="store_tests:ReplayTest.AFailureHalfWayIsUndoneCompletely")
mutation("attributes are not undone",
         ("store/journal.cc", "for (const auto& [name, value] : entry.xattrs) (void)set_xattr(fd, name, value);", ""),
         killed_by="store_tests:ReplayTest.AFailureHalfWayIsUndoneCompletely")
mutation("lost blobs are found only when they are needed",
         (REPLAY, "PCACHE_TRY(open_blobs()); const Result<void> applied", "blobs_.resize(record_.effects.size());\n"
          "const Result<void> applied"), (REPLAY, "if (!applied) journal_.undo();", ""),
         killed_by="store_tests:ReplayTest.ALostBlobStopsItBeforeAnythingIsChanged")
mutation("lost blobs of streams are not missed",
         (REPLAY, "if (blobs.has(record_.stream_blob, size)) return {};", "if (size > 0) return {};"),
         killed_by="store_tests:ReplayTest.ALostBlobStopsItBeforeAnythingIsChanged")
mutation("damaged blobs are given out",
         ("store/blob_store.cc", "if (*found != digest || stamp.size != size) {", "if (stamp.size != size) {"),
         killed_by="damaged_blobs_never_reach_the_tree")
mutation("holes are filled when they are kept",
         ("store/blob_store.cc", "const bool sparse = may_be_sparse(fd);", "const bool sparse = false;"),
         killed_by="holes_stay_holes")
mutation("holes are filled when they are written",
         ("store/journal.cc", "if (!may_be_sparse(from)) return copy_extent(from, to, 0, size);",
          "return copy_extent(from, to, 0, size);"), killed_by="holes_stay_holes")
mutation("holes are filled by the worker",
         ("fusefs/served.cc", "if (left > 0 && store::may_be_sparse(served.blob.get())) {", "if (left == 77) {"),
         killed_by="holes_stay_holes")

# --- what own doing answers ---
mutation("a time that the command has set itself is a question about before",
         (LEDGER, "if (value->err == 0 && times_are_own(entry)) {", "if (entry.sequence == ~0ULL) {"),
         killed_by="own_touch_is_no_question_about_before")
mutation("what lies below an own file is a question",
         (LEDGER, "if (value.err == ENOTDIR && below_own_file(*a, key.path)) return;", ""),
         killed_by="copy_into_what_became_a_directory")
mutation("what lies behind a circle of links is a question",
         (LOOKUPS, "if (resolved.err == ELOOP && !resolved.links.empty()) return Special::kNoFact;", ""),
         killed_by="loop_of_links_is_broken")

# --- found by the oracle ---
mutation("a sparse file is rewritten where the search for its holes had stopped",
         (REPLAY, "|| lseek(fd.get(), 0, SEEK_SET) != 0) return errno;", ") return errno;"),
         killed_by="sparse_file_rewritten_in_place")
mutation("a time that is set to what it was is no effect",
         ("tracer/recorder.cc", "if (!touched && !attributes && !effect.mtime_ns) return true;",
          "if (!touched && !attributes) return true;"), killed_by="time_set_that_was_the_same")
mutation("a temporary file needs no directory",
         ("tracer/interpret_changes.cc", "observe_room_for(c, has_second ? pending.second : at);", ""),
         killed_by="temporary_file_in_a_directory_that_is_gone")
mutation("what is changed under a name that goes is nobody's",
         ("tracer/recorder.cc", "if (entry.shared_inode && (err != 0 || replaced)) {", "if (err == -77) {"),
         killed_by="written_under_another_name_that_goes")
mutation("a stream's file may be changed by name",
         (LEDGER, "if (changes_own_output(e)) return;", ""),
         killed_by="stdout_file_truncated_by_a_command_within")

# --- what is seized ---
mutation("who traces itself is traced all the same",
         ("tracer/exec_decision.cc", "if (seized_ && (traces_others(e) || images_.has_leak_sanitizer(image)))", "if (false)"),
         killed_by="those_that_trace_are_left_alone")
mutation("nobody answers for a dead daemon",
         ("cli/daemon/guardian.cc", "for (auto& [id, listener] : listeners_) inherit(listener);", "listeners_.clear();"),
         killed_by="seized_command_survives_a_killed_daemon")
mutation("a frozen daemon stays",
         ("cli/daemon/guardian.cc", "if (silent < kStopped) return;", "if (silent.count() > 0) return;"),
         killed_by="seized_command_survives_a_frozen_daemon")

mutation("another name of a symbolic link is a link of its own",
         ("tracer/recorder.cc", "      if (describe_link(e, path, entry, st, output)) return true;\n      effect.kind", "      effect.kind"),
         killed_by="hard_link_to_a_symbolic_link")

mutation("a time that was set is gone where a file is opened for writing",
         ("tracer/ledger_changes.cc", "    if (change.kind == ChangeKind::kTimes ||", "    if ((aspects & kContents) != 0) entry.mtime_ns.reset();\n    if (change.kind == ChangeKind::kTimes ||"),
         killed_by="time_set_and_nothing_appended")

mutation("a link that is moved is a new one",
         ("tracer/interpret_changes.cc", "} else if (!directory) {  // of a link too", "} else if (S_ISREG(p.before_first.st.st_mode)) {"),
         killed_by="moved_link_keeps_its_time")

mutation("a name that ln -f has put in place is a file of its own",
         ("tracer/interpret_changes.cc", "    entry.link_source = moved.link_source;\n", ""), killed_by="forced_hard_link")
mutation("what is moved has no other names",
         ("tracer/interpret_changes.cc", "p.before_first.st.st_nlink > 1)\n      ledger_.refuse(*a, \"changes-other-names\"", "p.before_first.st.st_nlink > 99)\n      ledger_.refuse(*a, \"changes-other-names\""),
         killed_by="moved_file_that_has_another_name")

# --- look-ups that are told once ---
mutation("what is changed between two alike look-ups is of no matter",
         ("tracer/ebpf/probe.bpf.c", "if (changed) __sync_fetch_and_add(changed, 1);", "(void)changed;"),
         killed_by="pcache_tracer_unit:ProbeHub* link_led_elsewhere_between_two_looks")
mutation("a look-up is told once for all processes",
         ("tracer/probe_hub.cc", "? PCACHE_WANTS_RESULTS : 0), scope};", "? PCACHE_WANTS_RESULTS : 0), scope ? 1U : 0U};"),
         killed_by="pcache_tracer_unit:ProbeHub*")
mutation("a name in a directory that has come is not there",
         ("tracer/resolver.cc", "if (result->err != ENOENT) return false;", "result->err = ENOENT;"),
         killed_by="pcache_tracer_unit:ResolverTest.*")
mutation("a way is the same whatever its directory has become",
         ("tracer/resolver.cc", "  ways_.clear();\n  if (known->second.step", "  if (known->second.step"),
         killed_by="pcache_tracer_unit:ResolverTest.*")
mutation("what is looked at is known to be no link where it is one",
         (LEDGER, "no_link = no_link || (tells_kind && fact.value.mode != 0 && !S_ISLNK(fact.value.mode));", "no_link = true;"),
         killed_by="pcache_tracer_unit:LedgerFacts.*")
mutation("a file comes back when its mode was set",
         ("tracer/recorder.cc", "if (!effect.mtime_ns) order_by_time(e, path, entry, st, output);", ""),
         killed_by="pcache_tracer_unit:RecorderTest.*")

# --- workflows ---
mutation("the vDSO tells the time unseen",
         ("tracer/vdso.cc", "const uint64_t nothing[2] = {AT_IGNORE, 0};", "const uint64_t nothing[2] = {word, value};"),
         killed_by="strict_clock_refuses_what_asks_for_the_time strict_clock_in_a_static_program")
mutation("nobody is told of reading the clock",
         ("tracer/filter.cc", "if (row.meaning == Meaning::kClock && clocks)", "if (false && clocks)"),
         killed_by="strict_clock_refuses_what_asks_for_the_time")
mutation("strict_clock is no part of a key",
         ("store/lists.cc", "if (strict_clock) meaning.emplace_back(\"strict_clock\", \"yes\");", ""),
         killed_by="strict_clock_has_records_of_its_own")
mutation("anybody may connect to a socket",
         ("tracer/interpret_local.cc", "!connected_.contains(peer.pid))", "peer.pid == 0)"),
         killed_by="somebody_outside_connects")
mutation("a server may be recorded without its client",
         ("tracer/interpret_local.cc", "if (!c.e.within(*other) && made_by(*other, at.path))", "if (false)"),
         killed_by="server_and_client_of_one_script")
mutation("shared memory may be left behind",
         ("tracer/interpret_local.cc", "if (!memory->second.removed)", "if (false)"),
         killed_by="shared_memory_that_is_left")
mutation("a signal is no input",
         (SESSION, "if (is_message(signal)) signalled(tid, process, signal);", ""), killed_by="told_to_stop_from_outside")
mutation("the environment in /proc is no input",
         (LOOKUPS, "if (path == \"/proc/self/environ\" && opens)", "if (false)"), killed_by="environment_by_proc")
mutation("awk never looks at the environment",
         ("store/environment.cc", "for (const std::string_view suspicious : {\"ENVIRON\", \"SYMTAB\", \"@\"})",
          "for (const std::string_view suspicious : {\"@\"})"), killed_by="awk_in_a_job_of_parallel")
mutation("numbers that numpy draws are recorded",
         ("tracer/interpret_random.cc", "if (!c.e.seeds.draws) return;", "return;"), killed_by="seed_of_numpy")
mutation("the key of multiprocessing may be taken at any time",
         ("tracer/interpret_random.cc", "if (due == Due::kMultiprocessing && size == kMultiprocessingKeyBytes) return;",
          "if (size == kMultiprocessingKeyBytes) return;"),
         killed_by="key_of_multiprocessing_and_another random_bytes_after_reading_the_module")
