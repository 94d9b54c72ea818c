#pragma once

#include <cstdint>
#include <string>

namespace facet {

/// The most bytes this process ever had in memory, mapped files included (VmHWM).
int64_t peak_resident_bytes();

/// Permits as many open files as the system lets this process have; the soft limit is often 1,024.
void raise_descriptor_limit();

/// The file this program runs from; empty if nothing says. It may have been replaced since.
std::string program_file();

/// The command line that started this process, fit for a shell.
std::string command_line();

/// What /proc says of this process; 0 where it does not.
struct ProcessUsage {
  double cpu_seconds = 0;  ///< user and system, all threads
  double start_time = 0;   ///< Unix time
  int64_t resident_bytes = 0;
  int64_t virtual_bytes = 0;
  int64_t open_descriptors = 0;
  int64_t most_descriptors = 0;
};
ProcessUsage process_usage();

}  // namespace facet
