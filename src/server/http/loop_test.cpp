#include "server/http/loop.h"

#include <chrono>
#include <future>
#include <gtest/gtest.h>
#include <memory>
#include <thread>
#include <vector>

namespace facet::http {
namespace {

using Clock = std::chrono::steady_clock;

TEST(Loop, WhatWaitsForAPauseRunsTogetherAndInOrder) {
  Loop loop(0);
  loop.start();
  std::vector<int> order;
  std::promise<Clock::time_point> ran;
  Clock::time_point told;
  loop.post([&] {
    told = Clock::now();
    loop.after_pause([&] {
      order.push_back(1);
      // Told during a pause's end: of the next one.
      loop.after_pause([&] {
        order.push_back(3);
        ran.set_value(Clock::now());
      });
    });
    loop.after_pause([&] { order.push_back(2); });
    order.push_back(0);
  });
  const Clock::time_point then = ran.get_future().get();
  loop.stop();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3}));
  EXPECT_GE(then - told, 2 * loop.pause());
}

TEST(Loop, WhatStillWaitsForAPauseEndsWithTheLoop) {
  const auto held = std::make_shared<int>(0);
  {
    Loop loop(0);
    std::promise<void> told;
    loop.post([&, held] {
      loop.after_pause([held] { ++*held; });
      told.set_value();
      std::this_thread::sleep_for(3 * loop.pause());  // stopped before the pause's end is looked at
    });
    loop.start();
    told.get_future().get();
    loop.stop();
  }
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_LE(*held, 1);
}

}  // namespace
}  // namespace facet::http
