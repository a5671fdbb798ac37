#include "tracer/command_line.h"

#include <algorithm>
#include <set>
#include <string_view>

namespace pcache::tracer {

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

bool only_unpacks(const std::string& image, const std::vector<std::string>& argv) {
  if (image == "tar" || image == "bsdtar") {
    if (argv.size() < 2) return false;
    for (size_t i = 1; i < argv.size(); ++i)
      for (const char* part : {"newer", "--after-date", "--update", "--listed-incremental"})
        if (argv[i].find(part) != std::string::npos) return false;
    std::string_view mode = argv[1];
    if (mode == "--extract" || mode == "--get" || mode == "--list") mode = "x";
    if (mode.starts_with("--")) return false;
    if (mode.starts_with('-')) mode.remove_prefix(1);
    return mode.find_first_of("xt") != std::string_view::npos &&
           mode.find_first_not_of("xtvfzjJkpomPSh") == std::string_view::npos;
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
