#pragma once

#include <cstdint>

namespace facet {

/// The most bytes this process ever had in memory, mapped files included (VmHWM).
int64_t peak_resident_bytes();

}  // namespace facet
