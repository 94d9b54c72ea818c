// The server whose tokens are hashes and whose steps take as long as it is told: hash_server MODEL
// takes the flags of `facet serve`, of which those of memory mean nothing here, and its own. For
// load: tens of thousands of streams cost next to nothing but what the server itself needs.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <thread>

#include "cli/exit_code.h"
#include "tests/fake/fake_server.h"
#include "tests/fake/hash_backend.h"

namespace facet::test {
namespace {

/// Waits as long as it is told that time passes.
class SleepingClock final : public FakeClock {
 public:
  void advance(double seconds) override {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }
};

void* allocate_resident(int64_t bytes) {
  void* data = host_allocator().allocate(bytes);
  std::memset(data, 0, static_cast<size_t>(bytes));
  return data;
}

/// The memory of a device is there from the start: what grows later is the server's own.
class DeviceBackend final : public HashBackend {
 public:
  const Buffer::Allocator& allocator() const override { return allocator_; }

 private:
  const Buffer::Allocator allocator_{allocate_resident, host_allocator().release,
                                     host_allocator().copy, host_allocator().device};
};

struct Arguments {
  cli::ServeOptions serve;
  double step_ms = 10;
  double row_us = 0;
  double jitter = 0;
  FakeServed served;
};

void add_arguments(CLI::App& app, Arguments& arguments) {
  cli::add_serve_options(app, arguments.serve);
  const auto add = [&](const char* name, auto& field, const char* help) {
    return app.add_option(name, field, help)->group("Fake")->capture_default_str();
  };
  add("--step-ms", arguments.step_ms, "Milliseconds of a step")->check(CLI::Range(0.0, 60000.0));
  add("--row-us", arguments.row_us, "Microseconds more for each of its rows")
      ->check(CLI::Range(0.0, 1e6));
  add("--jitter", arguments.jitter, "Share by which the time of a step varies, seeded")
      ->check(CLI::Range(0.0, 1.0));
  add("--sequences", arguments.served.max_running, "As --max-running, which is for real models")
      ->check(CLI::Range(1, 1 << 16));
  add("--pages", arguments.served.pages, "Pages of 16 positions in each of two KV groups")
      ->check(CLI::Range(16, 1 << 24));
  add("--prompt-rows", arguments.served.prefill_chunk, "Most prompt rows of a step")
      ->check(CLI::Range(1, 1 << 16));
  add("--load-seconds", arguments.served.load_seconds, "Seconds between listening and ready");
}

void serve(Arguments& arguments) {
  SleepingClock clock;
  DeviceBackend backend;
  backend.latency = {&clock, arguments.step_ms * 1e-3, arguments.row_us * 1e-6, arguments.jitter,
                     1};
  FakeServed& served = arguments.served;
  served.fingerprint = "fp_hash";
  served.text_only = true;
  served.model.max_logit_rows = served.max_running;
  served.model.max_rows = served.max_running + served.prefill_chunk;
  serve_fake(backend, arguments.serve, served);
}

}  // namespace
}  // namespace facet::test

int main(int argc, char** argv) {
  CLI::App app("The server over a fake backend");
  facet::test::Arguments arguments;
  facet::test::add_arguments(app, arguments);
  CLI11_PARSE(app, argc, argv);
  try {
    facet::test::serve(arguments);
  } catch (...) {
    return facet::cli::report_failure();
  }
}
