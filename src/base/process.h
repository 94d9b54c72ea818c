#pragma once

#include <cstdint>
#include <string>

namespace facet {

/// The most bytes this process ever had in memory, mapped files included (VmHWM).
int64_t peak_resident_bytes();

/// Permits as many open files as the system lets this process have; the soft limit is often 1,024.
void raise_descriptor_limit();

/// The command line that started this process, fit for a shell.
std::string command_line();

}  // namespace facet
