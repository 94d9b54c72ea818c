#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/fields.h"
#include "server/served_model.h"

namespace facet {

/// A prompt of raw text or ids.
struct RawPrompt {
  std::vector<int32_t> ids;
  bool added_bos = false;  ///< the server put <bos> in front
};

enum class Bos { kAsWritten, kAdded };

/// Control tokens in `text` are recognised; with kAdded <bos> comes in front unless the text begins
/// with it.
RawPrompt encode_raw(std::string_view text, Bos bos, const ServedModel& model);

/// A text, several, ids, or several lists of ids, under `name`; at most 64 prompts. Reads
/// add_special_tokens too (server-api 6). Throws ApiError that names the prompt.
std::vector<RawPrompt> read_raw_prompts(Fields& fields,
                                        std::string_view name,
                                        const ServedModel& model);

}  // namespace facet
