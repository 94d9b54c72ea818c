#pragma once

#include <boost/json/object.hpp>
#include <string>

#include "model/gemma4/config.h"

namespace facet::gemma4::test {

/// config.json of a small model that states every field the engine reads. The members of `text` and
/// `root`, two JSON objects, replace those of text_config and of the top level.
boost::json::object small_config(const char* text = "{}", const char* root = "{}");
/// Gemma4Config::parse of that.
Gemma4Config parse_small(const char* text, const char* root = "{}");
/// The message with which a config is refused; fails the test if it is not, or without a place.
std::string refusal(const boost::json::object& config);
std::string refusal(const char* text, const char* root = "{}");

}  // namespace facet::gemma4::test
