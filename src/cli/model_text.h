#pragma once

#include <string>

#include "chat/prompt_renderer.h"
#include "tokenizer/tokenizer.h"

namespace facet::cli {

/// The tokenizer of MODEL: tokenizer.json in its folder.
Tokenizer load_tokenizer(const std::string& model);

/// How prompts of the model in `folder` are rendered: which published template, and whether its
/// size wants an empty thought. `option` is --template: auto, july2026 or april2026. Logs a line
/// for an unknown template.
RenderOptions render_options(const std::string& folder, const std::string& option);

}  // namespace facet::cli
