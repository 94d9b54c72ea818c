#include "server/http/resolve.h"

#include <boost/asio/error.hpp>
#include <gtest/gtest.h>

namespace facet::http {
namespace {

TEST(Resolve, LocalhostIsThisMachineWhereNothingKnowsTheName) {
  SystemError error = boost::asio::error::host_not_found;
  const Addresses known = known_addresses({}, "localhost", "8000", error);
  EXPECT_FALSE(error);
  ASSERT_EQ(known.size(), 2U);
  EXPECT_EQ(known.begin()->endpoint().address().to_string(), "127.0.0.1");
  for (const auto& one : known) {
    EXPECT_TRUE(one.endpoint().address().is_loopback());
    EXPECT_EQ(one.endpoint().port(), 8000);
  }
}

TEST(Resolve, OtherNamesAndPortsStayUnknown) {
  for (const auto& [host, port] : {std::pair("models.example", "80"),
                                   std::pair("localhost", "65536"), std::pair("localhost", "x")}) {
    SystemError error = boost::asio::error::host_not_found;
    EXPECT_TRUE(known_addresses({}, host, port, error).empty());
    EXPECT_TRUE(error) << host << port;
  }
}

TEST(Resolve, WhatTheResolverFoundStands) {
  SystemError error;
  const Addresses found = resolve("127.0.0.2", "80", error);
  ASSERT_FALSE(error);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found.begin()->endpoint().address().to_string(), "127.0.0.2");
}

}  // namespace
}  // namespace facet::http
