#pragma once

#include <boost/json/value.hpp>
#include <string_view>

namespace facet {

/// The member of an object; nullptr if there is none, or `value` is null or no object.
inline const boost::json::value* json_member(const boost::json::value* value,
                                             std::string_view name) {
  const boost::json::object* object = value != nullptr ? value->if_object() : nullptr;
  return object != nullptr ? object->if_contains(name) : nullptr;
}

}  // namespace facet
