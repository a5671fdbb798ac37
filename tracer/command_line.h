// What a program's options say of how it looks at files. `image`: store::image_name() of it.
//
// Pure; in doubt each answers as if nothing were known of the program.
#pragma once

#include <string>
#include <vector>

namespace pcache::tracer {

// They look at what they are about to replace, to see what kind of thing it is (mv, cp, ar…); not
// so where an option compares or keeps times.
bool looks_before_replacing(const std::string& image, const std::vector<std::string>& argv);
// Of those that keep the times of what they open: tar does so when it packs, the compressors where
// they name a file after another. What unpacks an archive, or to standard output, tells nobody;
// not so where an option compares times, or one that is not known may. `env`: tar has options
// there.
bool only_unpacks(const std::string& image, const std::vector<std::string>& argv,
                  const std::vector<std::string>& env);
// ls tells times only when asked to: `ls -di .`, as every configure script runs it, does not.
bool shows_directory_times(const std::string& image, const std::vector<std::string>& argv);

}  // namespace pcache::tracer
