// What of all that is started in a mount is worth to be followed.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace pcache::tracer {

// Of a process at its exec event: false for a shell or interpreter somebody is about to type into,
// and for a program that gets other privileges.
bool is_command(pid_t process);

// The part that is decided by the words alone. `image`: as store::image_name has it.
bool is_interactive(const std::string& image, const std::vector<std::string>& argv,
                    bool stdin_is_terminal);

}  // namespace pcache::tracer
