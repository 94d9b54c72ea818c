#include "server/http/message.h"

#include <algorithm>

namespace facet::http {

const std::string* RequestHead::field(std::string_view name) const {
  for (const Field& field : fields) {
    if (field.name == name) return &field.value;
  }
  return nullptr;
}

int32_t RequestHead::count(std::string_view name) const {
  return static_cast<int32_t>(std::count_if(
      fields.begin(), fields.end(), [name](const Field& field) { return field.name == name; }));
}

}  // namespace facet::http
