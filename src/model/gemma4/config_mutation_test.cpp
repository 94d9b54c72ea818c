// Damaged configs: whatever is deleted or replaced, parsing ends in a sound config or an Error.

#include <boost/json/serialize.hpp>
#include <filesystem>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "checkpoint/json.h"
#include "model/gemma4/config_test.h"
#include "tests/support.h"

namespace facet::gemma4 {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;
using test::small_config;

/// Every place in a document that holds a value, as a way to reach it.
void collect(value& at, std::vector<value*>& places) {
  places.push_back(&at);
  if (object* members = at.if_object()) {
    for (auto& member : *members) collect(member.value(), places);
  } else if (array* elements = at.if_array()) {
    for (value& element : *elements) collect(element, places);
  }
}

/// Parses, and fails the test for anything but success or Error.
bool survives(const value& config) {
  try {
    const Gemma4Config parsed = Gemma4Config::parse(config.as_object());
    EXPECT_EQ(parsed.layers.size(), static_cast<size_t>(parsed.num_hidden_layers));
    for (const LayerConfig& layer : parsed.layers) {
      EXPECT_GT(layer.q_size(), 0);
      EXPECT_EQ(layer.num_heads % layer.num_kv_heads, 0);
      EXPECT_LE(layer.rope.rotated_pairs, layer.head_dim / 2);
      EXPECT_EQ(parsed.layers.at(static_cast<size_t>(layer.kv_donor)).attention, layer.attention);
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

TEST(Gemma4ConfigMutation, DeletedAndMutatedFieldsEndInAnErrorAtWorst) {
  const auto found =
      facet::test::shared_path("real-configs/nvidia--Gemma-4-26B-A4B-NVFP4_config.json");
  const value original = found ? value(read_json_object(*found)) : value(small_config());
  const char* const replacements[] = {"null",
                                      "true",
                                      "false",
                                      "0",
                                      "1",
                                      "-1",
                                      "2",
                                      "3",
                                      "0.5",
                                      "1e308",
                                      "9223372036854775807",
                                      "18446744073709551615",
                                      "-9223372036854775808",
                                      "\"\"",
                                      "\"all\"",
                                      "[]",
                                      "{}",
                                      "[1]",
                                      "[null]",
                                      "[\"full_attention\"]",
                                      R"({"rope_theta": 1})",
                                      "65536",
                                      "4096"};
  uint32_t state = 99;
  const auto next = [&state](size_t bound) {
    state = state * 1664525U + 1013904223U;
    return (state >> 8) % bound;
  };
  int32_t accepted = 0;
  for (int32_t round = 0; round < 4000; ++round) {
    value config = original;
    config.as_object().erase("quantization_config");
    for (size_t changes = 1 + next(3); changes > 0; --changes) {
      std::vector<value*> places;
      collect(config, places);
      value& place = *places[1 + next(places.size() - 1)];  // not the root
      object* members = place.if_object();
      if (members != nullptr && !members->empty() && next(2) == 0) {
        members->erase(members->begin() + static_cast<int64_t>(next(members->size())));
      } else {
        place = parse_json(replacements[next(std::size(replacements))]);
      }
    }
    accepted += survives(config) ? 1 : 0;
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 4000);
}

// Each field of text_config alone, deleted and with every replacement.
TEST(Gemma4ConfigMutation, EachFieldAloneEndsInAnErrorAtWorst) {
  const object original = small_config();
  for (const auto& member : original.at("text_config").as_object()) {
    object shorter = original;
    shorter["text_config"].as_object().erase(member.key());
    EXPECT_NO_FATAL_FAILURE(survives(shorter));
    for (const char* replacement :
         {"null", "-1", "0", "1", "7", "1e300", "\"x\"", "[]", "{}", "[0]"}) {
      object config = original;
      config["text_config"].as_object()[member.key()] = parse_json(replacement);
      EXPECT_NO_FATAL_FAILURE(survives(config));
    }
  }
}

}  // namespace
}  // namespace facet::gemma4
