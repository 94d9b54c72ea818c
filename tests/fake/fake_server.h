#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/serve_options.h"
#include "tests/fake/fake_ops.h"
#include "tokenizer/tokenizer.h"

namespace facet::test {

/// Who answers in a server without a real model, besides what the flags of `serve` say.
struct FakeServed {
  std::string fingerprint;
  FakeModelOptions model;    ///< vocab_size is the tokenizer's
  int32_t page_size = 16;    ///< positions
  int32_t pages = 1024;      ///< of each KV group
  int32_t max_running = 64;  ///< sequences
  int32_t prefill_chunk = 512;
  bool text_only = false;   ///< control tokens are never sampled: answers go on to their cap
  double load_seconds = 0;  ///< between listening and being ready
};

/// The bundled model's.
Tokenizer fake_tokenizer();

/// Serves over `backend` until a signal ends it: all but the backend is what `facet serve` runs.
/// Throws as that does.
void serve_fake(Backend& backend, cli::ServeOptions& options, const FakeServed& served);

}  // namespace facet::test
