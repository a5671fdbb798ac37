// The lists of programs that rules go by (design: "rules that name programs mean images").
#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "store/weak_key.h"

namespace pcache::store {

namespace {

constexpr std::string_view kShells[] = {"ash",  "bash",  "busybox", "dash", "fish", "ksh",
                                        "mksh", "rbash", "sh",      "yash", "zsh"};

// Programs whose version is written without a hyphen: python3.11, lua5.4, perl5.36.0.
constexpr std::string_view kVersioned[] = {
    "clang",  "g++",  "gcc", "gfortran", "guile",  "lua",  "luajit", "node",
    "nodejs", "perl", "php", "pypy",     "python", "ruby", "tclsh",  "wish",
};

template <size_t N>
bool contains(const std::string_view (&list)[N], std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

bool version_character(char c) { return c == '.' || std::isdigit(static_cast<unsigned char>(c)); }

// "x86_64-linux-gnu-gcc" → "gcc".
std::string_view without_triple(std::string_view name) {
  for (const std::string_view system :
       {"-linux-gnu", "-linux-musl", "-linux-android", "-w64-mingw32", "-none-eabi", "-unknown-elf",
        "-none-elf", "-elf"}) {
    const size_t at = name.find(system);
    if (at == std::string_view::npos) continue;
    const size_t hyphen = name.find('-', at + system.size());
    if (hyphen != std::string_view::npos && hyphen + 1 < name.size())
      return name.substr(hyphen + 1);
  }
  return name;
}

std::string_view without_version(std::string_view name) {
  size_t end = name.size();
  while (end > 0 && version_character(name[end - 1])) --end;
  if (end == name.size() || end == 0) return name;
  if (name[end - 1] == '-' && end > 1) return name.substr(0, end - 1);
  return contains(kVersioned, name.substr(0, end)) ? name.substr(0, end) : name;
}

}  // namespace

std::string image_name(const std::string& executable) {
  std::string_view name = executable;
  if (const size_t slash = name.rfind('/'); slash != std::string_view::npos) {
    name.remove_prefix(slash + 1);
  }
  return std::string(without_version(without_triple(name)));
}

bool ignores_cwd(const std::string& image) { return compilers().contains(image); }

namespace {

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

bool is_listed(const NameList& list, const ImageInfo& image) {
  return list.contains(image_name(image.executable)) ||
         list.contains(base_name(image.executable)) || list.contains(image.executable);
}

bool never_recorded(const ImageInfo& image) {
  const NameList& never = image.lists->never;
  if (is_listed(never, image)) return true;
  // A script that is called as a program of the built-in list is another thing: "./w".
  const std::string& path = image.script.text;
  const std::string script = image.script.name();
  return path != "/" && ((never.contains(script) && !Lists::defaults().never.contains(script)) ||
                         (path.find('/') != std::string::npos && never.contains(path)));
}

bool is_shell(const std::string& image) { return contains(kShells, image); }

}  // namespace pcache::store
