#pragma once

#include <cstdint>
#include <string>

#include "cli/loaded_model.h"
#include "cli/serve_options.h"

namespace facet::cli {

/// What tells checkpoints apart: names, types, shapes and values of all tensors, and the bytes of
/// the small files that prompts and answers depend on (configs, tokenizer, template). Values count
/// by `sums`, which come for nothing while the weights are read at start; a tensor that is not read
/// then counts by size and time of its file instead, so that equal digests are true all the same,
/// but of these files only. Throws Error{kIo}.
uint64_t checkpoint_digest(const Checkpoint& checkpoint, const TensorSums& sums);

/// The numeric mode in words: instruction set (the number of threads changes no bit), formats of
/// weights and of the cache, and what else of the flags changes what is generated.
std::string numeric_mode(const ServeOptions& options, DType kv_dtype, int32_t max_model_len);

/// "fp_BUILD_CHECKPOINT_MODE": equal ones promise equal bytes for equal requests and seeds. BUILD
/// is the commit and a checksum of the program, for one commit can be built in many ways. Throws
/// Error{kIo}.
std::string fingerprint_of(uint64_t digest, const std::string& mode);

}  // namespace facet::cli
