#pragma once

#include <cstdint>

namespace facet {

/// Ids are types of their own, so that a page cannot be passed for a token. to_index gives the
/// number.
enum class TokenId : int32_t {};
enum class PageId : int32_t {};
enum class ExpertId : int32_t {};

constexpr int32_t to_index(TokenId id) { return static_cast<int32_t>(id); }
constexpr int32_t to_index(PageId id) { return static_cast<int32_t>(id); }
constexpr int32_t to_index(ExpertId id) { return static_cast<int32_t>(id); }

}  // namespace facet
