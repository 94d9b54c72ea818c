#include "base/error.h"

#include <gtest/gtest.h>

namespace facet {
namespace {

TEST(Error, NamesThePlaceOutermostFirst) {
  const Error inner(ErrorCode::kBadCheckpoint, "header is cut off", "model.safetensors");
  const Error outer = inner.in("models/fable");
  EXPECT_STREQ(outer.what(), "models/fable: model.safetensors: header is cut off");
  EXPECT_EQ(outer.code(), ErrorCode::kBadCheckpoint);
}

TEST(Error, InPlaceAddsOnlyOnFailure) {
  EXPECT_EQ(in_place("x", [] { return 3; }), 3);
  try {
    in_place("layer 3", []() -> int { throw Error(ErrorCode::kBadInput, "no"); });
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "layer 3: no");
  }
}

}  // namespace
}  // namespace facet
