#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace facet {

/// Index of the first E4M3 code that no block scale may be, NaN (0x7f, 0xff) or below zero; -1 if
/// there is none.
int64_t find_bad_scale(std::span<const std::byte> codes);

}  // namespace facet
