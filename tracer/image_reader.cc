#include "tracer/image_reader.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>

namespace pcache::tracer {
namespace {

constexpr size_t kHeadBytes = 4096;
constexpr size_t kScriptBytes = 1 << 20;

std::string cpu_flags() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line))
    if (line.starts_with("flags")) return store::hash_bytes(line).hex();
  return {};
}

std::string elf_interpreter(const std::string& head, int fd) {
  Elf64_Ehdr header;
  std::memcpy(&header, head.data(), sizeof header);
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    const off_t at = static_cast<off_t>(header.e_phoff + i * sizeof segment);
    if (::pread(fd, &segment, sizeof segment, at) != static_cast<ssize_t>(sizeof segment)) break;
    if (segment.p_type != PT_INTERP || segment.p_filesz == 0 || segment.p_filesz > 4096) continue;
    std::string path(segment.p_filesz, '\0');
    if (::pread(fd, path.data(), path.size(), static_cast<off_t>(segment.p_offset)) !=
        static_cast<ssize_t>(path.size()))
      break;
    path.resize(std::strlen(path.c_str()));
    return path;
  }
  return {};
}

template <class T>
bool read_at(int fd, uint64_t at, T* to) {
  return ::pread(fd, to, sizeof *to, static_cast<off_t>(at)) == static_cast<ssize_t>(sizeof *to);
}

// The names that a 64-bit program imports and exports, NUL-separated.
std::string dynamic_strings(int fd) {
  constexpr uint64_t kMost = 16 << 20;
  Elf64_Ehdr header;
  if (!read_at(fd, 0, &header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return {};
  std::vector<Elf64_Phdr> loads;
  Elf64_Phdr dynamic{};
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    if (!read_at(fd, header.e_phoff + i * sizeof segment, &segment)) return {};
    if (segment.p_type == PT_LOAD) loads.push_back(segment);
    if (segment.p_type == PT_DYNAMIC) dynamic = segment;
  }
  uint64_t address = 0, size = 0;
  for (uint64_t at = 0; at + sizeof(Elf64_Dyn) <= dynamic.p_filesz; at += sizeof(Elf64_Dyn)) {
    Elf64_Dyn entry;
    if (!read_at(fd, dynamic.p_offset + at, &entry) || entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_STRTAB) address = entry.d_un.d_ptr;
    if (entry.d_tag == DT_STRSZ) size = entry.d_un.d_val;
  }
  for (const Elf64_Phdr& load : loads) {
    if (address < load.p_vaddr || address >= load.p_vaddr + load.p_filesz) continue;
    std::string text(std::min(size, kMost), '\0');
    const ssize_t n = ::pread(fd, text.data(), text.size(),
                              static_cast<off_t>(load.p_offset + (address - load.p_vaddr)));
    text.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return text;
  }
  return {};
}

std::string shebang_path(const std::string& head) {
  size_t begin = 2;
  while (begin < head.size() && (head[begin] == ' ' || head[begin] == '\t')) ++begin;
  size_t end = begin;
  while (end < head.size() && !std::strchr(" \t\n", head[end])) ++end;
  return head.substr(begin, end - begin);
}

}  // namespace

ImageReader::ImageReader(const store::Observer& observer)
    : observer_(observer), cpu_flags_hash_(cpu_flags()) {
  utsname name{};
  ::uname(&name);
  kernel_release_ = name.release;
  node_name_ = name.nodename;
}

const ImageReader::Elf* ImageReader::inspect(const store::TreePath& path, const struct stat& st) {
  const store::Stamp stamp = store::Stamp::of(st);
  if (!stamp.young(store::realtime_ns()))
    if (const auto known = known_.find(stamp); known != known_.end()) return &known->second;
  Elf elf;
  UniqueFd fd;
  if (observer_.open_read(path, &fd) == 0 && observer_.content_hash(path, st, &elf.hash) == 0) {
    elf.readable = true;
    std::string head(kHeadBytes, '\0');
    const ssize_t n = ::pread(fd.get(), head.data(), head.size(), 0);
    head.resize(n > 0 ? static_cast<size_t>(n) : 0);
    if (head.size() >= sizeof(Elf64_Ehdr) && head.starts_with(ELFMAG)) {
      elf.elf = true;
      elf.wide = head[EI_CLASS] == ELFCLASS64;
      if (elf.wide) elf.interpreter = elf_interpreter(head, fd.get());
    } else if (head.starts_with("#!")) {
      elf.shebang = shebang_path(head);
      elf.text.resize(std::min<size_t>(static_cast<size_t>(st.st_size), kScriptBytes));
      const ssize_t got = ::pread(fd.get(), elf.text.data(), elf.text.size(), 0);
      elf.text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    }
  }
  return &(known_[stamp] = std::move(elf));
}

// Both runtimes export their entry points, or import them from the shared one.
bool ImageReader::has_leak_sanitizer(const ReadImage& image) const {
  UniqueFd fd;
  if (image.files.empty() || observer_.open_read(image.files.front().path, &fd) != 0) return false;
  const std::string names = dynamic_strings(fd.get());
  return names.find("__asan_init") != std::string::npos ||
         names.find("__lsan_") != std::string::npos;
}

ReadImage ImageReader::read(Tid pid, const std::string& pending) {
  ReadImage image;
  store::ImageInfo& info = image.info;
  const std::string& root = observer_.tree().root();
  info.executable = proc_link(pid, "exe");
  info.executable_path = store::TreePath::from_absolute(info.executable, root);
  info.interpreter.text = info.script.text = "/";
  info.argv = read_proc_list(pid, "cmdline");
  info.env = read_proc_list(pid, "environ");
  info.cwd = proc_link(pid, "cwd");
  if (const std::optional<Credentials> credentials = read_credentials(pid)) {
    image.credentials = *credentials;
    info.umask = credentials->umask;
    info.uid = credentials->euid;
    info.gid = credentials->egid;
    info.groups = credentials->groups;
    info.capabilities = credentials->effective_capabilities;
    info.ignored_signals = credentials->ignored_signals;
  }
  info.limits = read_proc(pid, "limits");
  info.niceness = std::to_string(::getpriority(PRIO_PROCESS, static_cast<id_t>(pid.value)));
  info.kernel_release = kernel_release_;
  info.node_name = node_name_;
  info.cpu_flags_hash = cpu_flags_hash_;

  struct stat st {};
  if (!info.executable.starts_with('/') || observer_.stat(info.executable_path, &st) != 0) {
    image.refusal = store::Reason{"unreadable-program", info.executable, "it can't be found again"};
    return image;
  }
  const Elf* elf = inspect(info.executable_path, st);
  image.supported = !elf->readable || (elf->elf && elf->wide);
  if (!elf->readable || !elf->elf || !elf->wide) {
    image.refusal =
        elf->readable
            ? store::Reason{"foreign-architecture", info.executable, "not a 64-bit program"}
            : store::Reason{"unreadable-program", info.executable, "it can't be read"};
    return image;
  }
  info.executable_hash = elf->hash;
  // `sh script`: what it names, it may look at.
  if (pending == info.executable && info.argv.size() > 1 &&
      store::is_shell(store::image_name(info.executable)) && !info.argv[1].starts_with('-')) {
    const std::string& name = info.argv[1];
    const store::TreePath script =
        store::TreePath::from_absolute(name[0] == '/' ? name : info.cwd + "/" + name, root);
    struct stat there {};
    if (observer_.stat(script, &there) == 0 && S_ISREG(there.st_mode)) {
      UniqueFd fd;
      if (observer_.open_read(script, &fd) == 0) {
        info.script_text.resize(std::min<size_t>(static_cast<size_t>(there.st_size), kScriptBytes));
        const ssize_t got = ::pread(fd.get(), info.script_text.data(), info.script_text.size(), 0);
        info.script_text.resize(got > 0 ? static_cast<size_t>(got) : 0);
      }
    }
  }
  image.files.push_back({info.executable_path, st});
  if (!elf->interpreter.empty()) image.named.push_back(elf->interpreter);
  if (!pending.empty() && pending != info.executable) {
    const store::TreePath script = store::TreePath::from_absolute(pending, root);
    if (observer_.stat(script, &st) == 0 && S_ISREG(st.st_mode)) {
      const Elf* text = inspect(script, st);
      if (!text->readable) {
        image.refusal = store::Reason{"unreadable-program", pending, "it can't be read"};
        return image;
      }
      info.script = script;
      info.script_hash = text->hash;
      info.script_text = text->text;
      image.files.push_back({script, st});
      if (!text->shebang.empty()) image.named.push_back(text->shebang);
    }
  }
  return image;
}

}  // namespace pcache::tracer
