#include "tracer/command_line.h"

#include <algorithm>
#include <set>
#include <string_view>

namespace pcache::tracer {
namespace {

constexpr std::string_view kUnpackingLetters = "xtvfzjJkpomPSh";

// Whether an option of tar's, after the first, is one that asks for no file's time. `-N FILE` does.
bool asks_for_no_time(std::string_view option) {
  static constexpr std::string_view kHarmless[] = {
      "--directory",        "--exclude",   "--file",    "--no-same-owner",
      "--strip-components", "--transform", "--verbose", "--wildcards"};
  if (option.starts_with("--"))
    return std::any_of(std::begin(kHarmless), std::end(kHarmless), [&](std::string_view name) {
      return option.substr(0, option.find('=')) == name;
    });
  return option == "-C" || option.find_first_not_of(kUnpackingLetters, 1) == std::string_view::npos;
}

}  // namespace

bool looks_before_replacing(const std::string& image, const std::vector<std::string>& argv) {
  static const std::set<std::string> kImages = {
      "mv", "cp", "install", "ln", "rm", "ar", "mkdir", "rmdir", "ranlib", "strip", "objcopy"};
  if (!kImages.contains(image)) return false;
  for (size_t i = 1; i < argv.size(); ++i) {
    const std::string& option = argv[i];
    if (option.starts_with("--update") || option.starts_with("--compare")) return false;
    const bool binutils = image == "strip" || image == "objcopy";
    if (binutils && (option == "-p" || option == "--preserve-dates")) return false;
    if (image != "ar" && !binutils && option.size() > 1 && option[0] == '-' && option[1] != '-' &&
        option.find_first_of(image == "install" ? "C" : "u") != std::string::npos)
      return false;
  }
  return true;
}

bool only_unpacks(const std::string& image, const std::vector<std::string>& argv,
                  const std::vector<std::string>& env) {
  if (image == "tar" || image == "bsdtar") {
    if (argv.size() < 2 || std::any_of(env.begin(), env.end(), [](const std::string& variable) {
          return variable.starts_with("TAR_OPTIONS=");
        }))
      return false;
    for (size_t i = 2; i < argv.size(); ++i)
      if (argv[i].starts_with('-') && !asks_for_no_time(argv[i])) return false;
    std::string_view mode = argv[1];
    if (mode == "--extract" || mode == "--get" || mode == "--list") mode = "x";
    if (mode.starts_with("--")) return false;
    if (mode.starts_with('-')) mode.remove_prefix(1);
    return mode.find_first_of("xt") != std::string_view::npos &&
           mode.find_first_not_of(kUnpackingLetters) == std::string_view::npos;
  }
  static const std::set<std::string> kCompressors = {"gzip", "bzip2", "xz", "zstd"};
  if (!kCompressors.contains(image)) return false;
  bool unpacks = false, to_stdout = false, names = false;
  for (size_t i = 1; i < argv.size(); ++i) {
    const std::string& word = argv[i];
    if (word == "-" || !word.starts_with('-')) {
      names = names || word != "-";
    } else if (word == "--decompress" || word == "--stdout") {
      (word == "--stdout" ? to_stdout : unpacks) = true;
    } else if (word.starts_with("--") || word.find_first_not_of("dcfqkn", 1) != std::string::npos) {
      return false;
    } else {
      unpacks = unpacks || word.find('d') != std::string::npos;
      to_stdout = to_stdout || word.find('c') != std::string::npos;
    }
  }
  return unpacks && (to_stdout || !names);
}

bool shows_directory_times(const std::string& image, const std::vector<std::string>& argv) {
  // Of those that keep times, these alone store a directory's.
  static const std::set<std::string> kStore = {"tar", "bsdtar", "cpio", "rsync",
                                               "zip", "7z",     "stat"};
  if (kStore.contains(image)) return true;
  if (image == "find")
    return std::any_of(argv.begin(), argv.end(), [](const std::string& word) {
      return word.starts_with("-newer") || word.starts_with("-mtime") ||
             word.starts_with("-mmin") || word.starts_with("-cnewer") ||
             word.starts_with("-anewer") || word.starts_with("-printf") || word.starts_with("-ls");
    });
  const bool copies = image == "cp" || image == "install";
  if (image != "ls" && !copies) return false;
  for (size_t i = 1; i < argv.size(); ++i) {
    const std::string& option = argv[i];
    if (copies) {
      if (option.starts_with("--preserve") || option == "--archive" || option == "--update" ||
          (option.size() > 1 && option[0] == '-' && option[1] != '-' &&
           option.find_first_of("apu") != std::string::npos))
        return true;
      continue;
    }
    if (option.starts_with("--"))
      if (option.find("time") != std::string::npos || option.find("sort") != std::string::npos ||
          option.find("format") != std::string::npos)
        return true;
    if (option.size() > 1 && option[0] == '-' && option[1] != '-' &&
        option.find_first_of("lgnotTucD") != std::string::npos)
      return true;
  }
  return false;
}

}  // namespace pcache::tracer
