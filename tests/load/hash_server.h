#pragma once

#include <chrono>
#include <fmt/core.h>
#include <string>
#include <string_view>
#include <vector>

#include "tests/e2e/server.h"
#include "tests/load/process_use.h"

namespace facet::test {

/// tests/fake/hash_server.cpp on a free port, with its flags.
TestServer hash_server(const std::vector<std::string>& flags);

/// Bytes of a request for an answer of so many tokens, streamed or not; `more` are further members,
/// beginning with a comma.
std::string chat_request(int32_t tokens, std::string_view more = {});
std::string chat_stream_request(int32_t tokens);

/// What /health/ready says of the engine.
struct EngineState {
  int64_t live = 0;  ///< requests that wait or run
  std::vector<int64_t> free_pages;
  bool operator==(const EngineState&) const = default;
};
EngineState engine_state(const TestServer& server);
/// Of a server that nobody asks anything: once it has seen that earlier connections are closed.
ProcessUse quiet_use(const TestServer& server);

inline double seconds_since(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

/// A figure for docs/serving.md, on a line of its own.
template <typename... Args>
void figure(fmt::format_string<Args...> format, Args&&... args) {
  fmt::print("figure: {}\n", fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace facet::test
