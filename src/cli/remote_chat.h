#pragma once

#include <string>

#include "cli/conversation.h"
#include "cli/sampling_options.h"
#include "server/http/client.h"

namespace facet::cli {

/// Whom a RemoteChat talks to.
struct RemoteServer {
  http::Url url;
  std::string key;    ///< empty: none is sent
  std::string model;  ///< as the server calls it
};

/// The first model that GET /v1/models names. Throws Error{kIo} if the server cannot be reached,
/// Error{kBadInput} with the server's words if it refuses.
std::string first_model(const RemoteServer& server);

/// A conversation with a server of OpenAI's chat completions API, streamed.
class RemoteChat : public Conversation {
 public:
  /// Only the settings given here, and those set() later, go into requests: the server has
  /// defaults of its own.
  RemoteChat(RemoteServer server, const SamplingOptions& sampling, int32_t max_tokens);

 private:
  Answer answer_messages(const OnPiece& on_piece, const KeepGoing& keep_going) override;
  std::string request_body() const;

  const RemoteServer server_;
  const SamplingOptions given_;
};

}  // namespace facet::cli
