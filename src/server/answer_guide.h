#pragma once

#include <functional>
#include <memory>

#include "chat/call_guide.h"
#include "engine/request.h"

namespace facet {

/// Makes, per choice, what holds the engine to the grammar of calls and the budget of thoughts.
/// `table` must outlive the engine's run.
std::function<std::unique_ptr<TokenGuide>(int32_t choice)> answer_guides(const TokenTable& table,
                                                                         CallGuideOptions options);

}  // namespace facet
