#include "engine/sequence.h"

#include <algorithm>

namespace facet {

int32_t Sequence::prompt_tokens() const {
  return static_cast<int32_t>(request->request.prompt.size());
}

int32_t Sequence::known() const {
  return prompt_tokens() + static_cast<int32_t>(output.size()) + (token_in_flight ? 1 : 0);
}

void Sequence::append_tokens(int32_t begin, int32_t end, std::vector<int32_t>& out) const {
  const std::vector<int32_t>& prompt = request->request.prompt;
  const int32_t border = prompt_tokens();
  if (begin < border)
    out.insert(out.end(), prompt.begin() + begin, prompt.begin() + std::min(border, end));
  if (end > border)
    out.insert(out.end(), output.begin() + std::max(0, begin - border),
               output.begin() + (end - border));
}

}  // namespace facet
