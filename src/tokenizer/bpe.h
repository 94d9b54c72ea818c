#pragma once

#include <string_view>
#include <vector>

#include "base/ids.h"

namespace facet {

struct Vocabulary;

/// Appends the tokens of `text`, taken as one word: of the neighbours that merge, those of lowest
/// rank do so first, the leftmost of equals. O(n log n). Throws Error{kBadInput} for text of over
/// 1 GiB.
void encode_word(const Vocabulary& vocabulary, std::string_view text, std::vector<TokenId>& out);

}  // namespace facet
