#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace facet {

/// XXH64 of `bytes`: finds damage and tells files apart, at several bytes a cycle. No protection
/// against anyone who means to deceive.
uint64_t checksum(std::span<const std::byte> bytes, uint64_t seed = 0);

}  // namespace facet
