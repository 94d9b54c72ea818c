#pragma once

// What the tests of pure checks share.

#include <gtest/gtest.h>
#include <string>

#include "base/error.h"

namespace facet::test {

/// The one line of the error of `code` that `body` throws, or "" if it throws none.
template <typename Body>
std::string refusal(ErrorCode code, const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    const std::string line = error.what();
    EXPECT_EQ(line.find('\n'), std::string::npos);
    return line;
  }
  return "";
}

}  // namespace facet::test
