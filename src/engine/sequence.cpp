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
  const int32_t border = std::clamp(prompt_tokens(), begin, end);
  out.insert(out.end(), prompt.begin() + begin, prompt.begin() + border);
  const int32_t behind = prompt_tokens();
  out.insert(out.end(), output.begin() + (border - behind), output.begin() + (end - behind));
}

}  // namespace facet
