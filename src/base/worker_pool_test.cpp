#include "base/worker_pool.h"

#include <array>
#include <atomic>
#include <chrono>
#include <gtest/gtest.h>
#include <stdexcept>
#include <thread>
#include <vector>

namespace facet {
namespace {

TEST(WorkerPool, CoversEachElementOnce) {
  WorkerPool pool(3);
  for (const int64_t count : {0, 1, 7, 64, 1000}) {
    for (const int64_t grain : {1, 5, 64}) {
      std::vector<int> hits(static_cast<size_t>(count), 0);
      pool.parallel_for(count, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
      });
      EXPECT_EQ(hits, std::vector<int>(static_cast<size_t>(count), 1));
    }
  }
}

TEST(WorkerPool, WakesSleepingWorkers) {
  WorkerPool pool(2);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(
        std::chrono::milliseconds(1));  // long enough for the worker to sleep
    std::atomic<int64_t> sum{0};
    pool.parallel_for(100, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sum += i;
    });
    EXPECT_EQ(sum.load(), 4950);
  }
}

TEST(WorkerPool, OneThreadRunsInTheCaller) {
  WorkerPool pool(1);
  const auto caller = std::this_thread::get_id();
  pool.parallel_for(10, 1,
                    [&](int64_t, int64_t) { EXPECT_EQ(std::this_thread::get_id(), caller); });
}

TEST(WorkerPool, AWorkerThatComesLateTakesNothingOfTheNextJob) {
  // Jobs so short that many are over before a worker has seen them; each has its own body, dead
  // when the call returns.
  WorkerPool pool(4);
  for (int round = 0; round < 20000; ++round) {
    std::array<std::atomic<int>, 5> hits{};
    pool.parallel_for(5, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) hits[static_cast<size_t>(i)] += round + 1;
    });
    for (const std::atomic<int>& each : hits) ASSERT_EQ(each.load(), round + 1);
  }
}

TEST(WorkerPool, EndsBesideWorkersThatComeLate) {
  // Far more threads than cores: some are put aside between waking for the job and joining it. A
  // pool whose worker then slept through its end hung one time in some ten thousand; in the seconds
  // that this takes, sixteen at once have several times as many.
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  std::atomic<int> ended{0};
  {
    std::vector<std::jthread> owners;
    for (int owner = 0; owner < 16; ++owner) {
      owners.emplace_back([&] {
        while (std::chrono::steady_clock::now() < until) {
          WorkerPool pool(4);
          pool.parallel_for(2, 1, [](int64_t, int64_t) {});
          ++ended;
        }
      });
    }
  }
  EXPECT_GT(ended.load(), 0);
}

TEST(WorkerPool, WhatABodyThrowsComesOutOfTheCall) {
  WorkerPool pool(3);
  for (int round = 0; round < 200; ++round) {
    const auto body = [&](int64_t begin, int64_t /*end*/) {
      if (begin >= 50) throw std::runtime_error("piece");
    };
    EXPECT_THROW(pool.parallel_for(100, 1, body), std::runtime_error);
    std::atomic<int64_t> sum{0};
    pool.parallel_for(100, 1, [&](int64_t begin, int64_t) { sum += begin; });
    EXPECT_EQ(sum, 4950);
  }
}

}  // namespace
}  // namespace facet
