#include "store/match.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace pcache::store {

namespace {

constexpr size_t kNamedEntries = 5;  // of a listing; the rest is counted

bool absent(int err) { return err == ENOENT || err == ENOTDIR; }

const char* kind_text(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "a file";
    case S_IFDIR:
      return "a directory";
    case S_IFLNK:
      return "a symbolic link";
    case S_IFIFO:
      return "a FIFO";
    case S_IFSOCK:
      return "a socket";
    case S_IFCHR:
    case S_IFBLK:
      return "a device";
    default:
      return "nothing";
  }
}

std::string listing_detail(const FactValue& before, const FactValue& now) {
  std::vector<std::string> changes;
  const auto name = [](const std::string& entry) { return entry.substr(1); };
  const auto has_name = [&](const std::vector<std::string>& entries, const std::string& wanted) {
    return std::any_of(entries.begin(), entries.end(), [&](const std::string& entry) {
      return std::string_view(entry).substr(1) == wanted;
    });
  };
  std::vector<std::string> added, removed;
  std::set_difference(now.entries.begin(), now.entries.end(), before.entries.begin(),
                      before.entries.end(), std::back_inserter(added));
  std::set_difference(before.entries.begin(), before.entries.end(), now.entries.begin(),
                      now.entries.end(), std::back_inserter(removed));
  for (const std::string& entry : added) {
    const bool other_kind = has_name(removed, name(entry));
    changes.push_back(name(entry) + (other_kind ? " is of another kind" : " was added"));
  }
  for (const std::string& entry : removed) {
    if (!has_name(added, name(entry))) changes.push_back(name(entry) + " was removed");
  }
  std::string detail;
  for (size_t i = 0; i < changes.size() && i < kNamedEntries; ++i) {
    if (i > 0) detail += ", ";
    detail += changes[i];
  }
  if (changes.size() > kNamedEntries) {
    detail += fmt::format(", and {} more", changes.size() - kNamedEntries);
  }
  return detail;
}

// One aspect of a present thing that differs.
struct Aspect {
  const char* code;
  std::string detail;
};

std::vector<Aspect> differing_aspects(const FactValue& before, const FactValue& now) {
  std::vector<Aspect> out;
  if ((before.mode & S_IFMT) != (now.mode & S_IFMT)) {
    out.push_back({"kind-changed",
                   fmt::format("was {}, is {} now", kind_text(before.mode), kind_text(now.mode))});
    return out;  // nothing else of it can be compared
  }
  if (before.hash != now.hash) out.push_back({"content-changed", "its content changed"});
  if (before.size != now.size) {
    out.push_back({"size-changed", fmt::format("size was {}, is {} now", before.size, now.size)});
  }
  if (before.mode != now.mode) {
    out.push_back({"mode-changed", fmt::format("mode was {:04o}, is {:04o} now",
                                               before.mode & 07777, now.mode & 07777)});
  }
  if (before.uid != now.uid || before.gid != now.gid) {
    out.push_back({"owner-changed", fmt::format("owner was {}:{}, is {}:{} now", before.uid,
                                                before.gid, now.uid, now.gid)});
  }
  if (before.nlink != now.nlink) {
    out.push_back(
        {"links-changed", fmt::format("had {} hard links, has {} now", before.nlink, now.nlink)});
  }
  if (before.mtime_ns != now.mtime_ns) {
    out.push_back({"mtime-changed", before.mtime_ns < now.mtime_ns
                                        ? "it was modified later than then"
                                        : "its time of modification is earlier than then"});
  }
  return out;
}

std::string replaced_text(const FactValue& v) {
  if (absent(v.err)) return "absent";
  if (v.err != 0) return std::strerror(v.err);
  if (v.text == "own") return fmt::format("an earlier run's output (mode {:04o})", v.mode & 07777);
  if (v.text == "replaceable") return "a file with the usual mode and owner";
  return std::string(kind_text(v.mode)) + " that no earlier run left there";
}

std::string replaced_detail(const FactValue& before, const FactValue& now) {
  const std::string was = replaced_text(before), is = replaced_text(now);
  if (was == is) return "another one is there than then: " + is;
  return fmt::format("was {}, is {} now", was, is);
}

std::string stream_detail(const FactKey& key, const FactValue& before, const FactValue& now) {
  if (before.text != now.text)
    return fmt::format("descriptor {} was a {}, is a {} now", key.param, before.text, now.text);
  if (before.size != now.size)
    return fmt::format("the file behind descriptor {} had {} bytes, has {} now", key.param,
                       before.size, now.size);
  return fmt::format("the file behind descriptor {} has another mode", key.param);
}

// Reason for answers of which at least one is an errno; "" code: not decided here.
Reason errno_difference(const FactKey& key, const FactValue& before, const FactValue& now) {
  if (key.kind == FactKind::kLink) {
    if (now.err == 0 && before.err == EINVAL) return {"link-changed", "", "is a symbolic link now"};
    if (now.err == EINVAL && before.err == 0) {
      return {"link-changed", "", "is no symbolic link any more"};
    }
  }
  if (now.err == ELOOP) {
    return {"link-changed", "", "a directory on the way is a symbolic link now"};
  }
  if (absent(before.err) && now.err == 0) {
    return {"appeared", "", "looked for and not found then, there now"};
  }
  if (absent(now.err) && !absent(before.err)) return {"vanished", "", "there then, gone now"};
  if (absent(before.err) && !absent(now.err)) {
    return {"access-changed", "", fmt::format("not found then; now: {}", std::strerror(now.err))};
  }
  const auto text = [](int err) { return err == 0 ? "allowed" : std::strerror(err); };
  const std::string was = text(before.err);
  return {"access-changed", "", fmt::format("then: {}; now: {}", was, text(now.err))};
}

}  // namespace

Reason difference(const FactKey& key, const FactValue& before, const FactValue& now) {
  const std::string& path = key.path.text;
  switch (key.kind) {
    case FactKind::kReplaced:
      return {"output-changed", path, replaced_detail(before, now)};
    case FactKind::kTerminal:
      return {"terminal-changed", path,
              fmt::format("descriptor {} {} a terminal now", key.param,
                          now.size != 0 ? "is" : "is not")};
    case FactKind::kStream:
      return {"stream-changed", path, stream_detail(key, before, now)};
    case FactKind::kStdin:
      return {"stdin-changed", path,
              before.hash == now.hash ? "standard input starts elsewhere in its file"
                                      : "the content of standard input changed"};
    case FactKind::kEnvironment: {
      if (key.names.empty())
        return {"environment-changed", "", "the terminal's or the session's variables changed"};
      const std::string what = before.err != 0 ? " was added"
                               : now.err != 0  ? " was removed"
                                               : " changed";
      return {"environment-changed", "", key.names[0] + what};
    }
    case FactKind::kAffinity:
      return {"affinity-changed", path,
              fmt::format("had {} processors, has {} now", before.size, now.size)};
    case FactKind::kXattr: {
      if (absent(before.err) || absent(now.err)) break;
      const std::string name = key.names.empty() ? std::string() : key.names[0];
      return {"xattr-changed", path,
              name.empty() ? "its extended attributes changed"
                           : fmt::format("its extended attribute {} changed", name)};
    }
    default:
      break;
  }
  if (before.err != 0 || now.err != 0) {
    Reason reason = errno_difference(key, before, now);
    reason.path = path;
    return reason;
  }
  if (key.kind == FactKind::kListing) {
    return {"listing-changed", path, listing_detail(before, now)};
  }
  if (key.kind == FactKind::kLink) {
    return {"link-changed", path, fmt::format("led to {}, leads to {} now", before.text, now.text)};
  }
  if (key.kind == FactKind::kStatfs) {
    return {"statfs-changed", path, "it is on a file system of another type"};
  }
  std::vector<Aspect> aspects = differing_aspects(before, now);
  if (key.kind == FactKind::kIdentity && before.text != now.text && before.nlink == now.nlink)
    aspects.push_back({"links-changed", "other names lead to the same file now"});
  if (aspects.empty())
    return {"content-changed", path, "the answer to a question about it changed"};
  std::string detail;
  for (const Aspect& aspect : aspects) {
    if (!detail.empty()) detail += "; ";
    detail += aspect.detail;
  }
  return {aspects.front().code, path, detail};
}

Verdict match(const Record& record, const Observations& observe) {
  Verdict verdict;
  std::vector<Fact> now;
  now.reserve(record.facts.size());
  for (const Fact& fact : record.facts) now.push_back({fact.key, observe(fact.key)});
  name_inodes(&now);
  for (const Fact& fact : record.side_facts) now.push_back({fact.key, observe(fact.key)});
  size_t i = 0;
  for (const std::vector<Fact>* facts : {&record.facts, &record.side_facts}) {
    for (const Fact& fact : *facts) {
      const FactValue& value = now[i++].value;
      if (value != fact.value) verdict.reasons.push_back(difference(fact.key, fact.value, value));
    }
  }
  verdict.hit = verdict.reasons.empty();
  return verdict;
}

}  // namespace pcache::store
