#pragma once

#include <string>
#include <string_view>

#include "traffic/record.h"

namespace facet {

/// Counts tokens in the events of one streamed answer of /generate or /v1/chat/completions. Events
/// come by the thousand while the server shares the machine, so only the last one is parsed.
class AnswerReader {
 public:
  explicit AnswerReader(RequestRecord& record) : record_(record) {}

  /// The data of one event that came at `at_s`.
  void take(std::string_view data, double at_s);
  /// After the last event: what it says of the whole answer goes into the record.
  void finish();

  bool done() const { return done_; }  ///< [DONE] has come
  /// What an error event said; empty if there was none.
  const std::string& error() const { return error_; }
  /// "length", "stop", …; empty if none was named.
  const std::string& finish_reason() const { return finish_reason_; }

 private:
  void add(int32_t total, double at_s);

  RequestRecord& record_;
  int32_t counted_ = 0;  // tokens in record_.arrivals
  bool done_ = false;
  std::string last_;  // the last event with counts
  std::string error_;
  std::string finish_reason_;
};

/// The message in the body of an error: error.message, or message, or the text itself.
std::string error_message(std::string_view body);

}  // namespace facet
