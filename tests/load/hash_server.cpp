#include "tests/load/hash_server.h"

#include <boost/json/value.hpp>
#include <thread>
#include <utility>

namespace facet::test {

TestServer hash_server(const std::vector<std::string>& flags) {
  std::vector<std::string> arguments = {"hash", "--port", "0", "--log-level", "warning"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  return {FACET_HASH_SERVER, arguments};
}

std::string chat_request(int32_t tokens, std::string_view more) {
  // Of 33 tokens: with the prefix cache, one row has to be computed.
  return http_request(
      "POST", kChat,
      fmt::format(R"({{"messages":[{{"role":"user","content":"Tell me a story about a little red )"
                  R"(fox and a big bear."}}],"max_tokens":{},"ignore_eos":true{}}})",
                  tokens, more));
}

std::string chat_stream_request(int32_t tokens) {
  return chat_request(tokens, R"(,"stream":true)");
}

EngineState engine_state(const TestServer& server) {
  const boost::json::value ready = server.request("GET", "/health/ready").json();
  EngineState state;
  state.live = ready.at("running").as_int64() + ready.at("waiting").as_int64();
  for (const boost::json::value& pages : ready.at("free_pages").as_array())
    state.free_pages.push_back(pages.as_int64());
  return state;
}

ProcessUse quiet_use(const TestServer& server) {
  ProcessUse use = process_use(server.pid());
  for (int i = 0; i < 100; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const ProcessUse before = std::exchange(use, process_use(server.pid()));
    if (use.descriptors == before.descriptors) break;
  }
  return use;
}

}  // namespace facet::test
