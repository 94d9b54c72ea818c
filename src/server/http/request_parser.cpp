#include "server/http/request_parser.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

#include "base/text.h"
#include "server/http/chunk_decoder.h"

namespace facet::http {

namespace beast = boost::beast;
using beast::error_code;
using BeastText = beast::string_view;

struct RequestParser::Impl final : beast::http::basic_parser<true> {
  explicit Impl(const Limits& limits_in) : limits(limits_in) {
    header_limit(static_cast<std::uint32_t>(limits_in.head + 1024));
    body_limit(boost::none);  // read_body has its own
  }

  const Limits& limits;
  RequestHead head;
  std::string body;
  uint64_t limit = 0;
  uint64_t taken = 0;
  std::optional<ChunkDecoder> chunks;  // if the body comes in chunks
  int version = 0;
  bool head_done = false;
  std::optional<Fault> fault;

  void on_request_impl(beast::http::verb /*method*/,
                       BeastText method,
                       BeastText target,
                       int number,
                       error_code& /*ec*/) override {
    head.method.assign(method.data(), method.size());
    const size_t mark = std::min(target.size(), target.find('?'));
    head.path.assign(target.data(), mark);
    if (mark < target.size()) head.query.assign(target.data() + mark + 1, target.size() - mark - 1);
    version = number;
  }
  void on_response_impl(int /*code*/,
                        BeastText /*reason*/,
                        int /*version*/,
                        error_code& /*ec*/) override {}
  void on_field_impl(beast::http::field /*known*/,
                     BeastText name,
                     BeastText value,
                     error_code& /*ec*/) override {
    if (head_done) return;  // a field behind a chunked body must not pass for one of the head
    head.fields.push_back({ascii_lower({name.data(), name.size()}), {value.data(), value.size()}});
  }
  void on_header_impl(error_code& /*ec*/) override { head_done = true; }
  void on_body_init_impl(const boost::optional<std::uint64_t>& /*length*/,
                         error_code& /*ec*/) override {}
  std::size_t on_body_impl(BeastText data, error_code& ec) override { return append(data, ec); }
  // Chunks do not get here: ChunkDecoder reads them.
  void on_chunk_header_impl(std::uint64_t /*size*/,
                            BeastText /*extensions*/,
                            error_code& /*ec*/) override {}
  std::size_t on_chunk_body_impl(std::uint64_t /*remain*/,
                                 BeastText data,
                                 error_code& /*ec*/) override {
    return data.size();
  }
  void on_finish_impl(error_code& /*ec*/) override {}

  std::size_t append(BeastText data, error_code& ec) {
    taken += data.size();
    if (taken > limit) {
      fault = Fault::kPayloadTooLarge;
      ec = beast::http::error::body_limit;
      return 0;
    }
    body.append(data.data(), data.size());
    return data.size();
  }
};

RequestParser::RequestParser(const Limits& limits) : impl_(std::make_unique<Impl>(limits)) {}
RequestParser::~RequestParser() = default;

RequestHead& RequestParser::head() { return impl_->head; }
std::string& RequestParser::body() { return impl_->body; }
bool RequestParser::done() const {
  return impl_->chunks ? impl_->chunks->done() : impl_->is_done();
}
// Beast wants to be asked about whole heads only.
bool RequestParser::keep_alive() const { return impl_->is_header_done() && impl_->keep_alive(); }
bool RequestParser::is_http_1_0() const { return impl_->version == 10; }

bool RequestParser::expects_continue() const {
  const std::string* expect = impl_->head.field("expect");
  return expect != nullptr && ascii_lower(*expect) == "100-continue" && !is_http_1_0();
}

std::optional<uint64_t> RequestParser::content_length() const {
  if (!impl_->is_header_done()) return 0;
  if (impl_->chunks) return std::nullopt;
  return impl_->content_length().value_or(0);
}

bool RequestParser::check_fields() {
  const RequestHead& head = impl_->head;
  const std::string* coding = head.field("transfer-encoding");
  if (coding != nullptr &&
      (head.count("transfer-encoding") > 1 || ascii_lower(*coding) != "chunked"))
    return false;
  if (coding != nullptr && (head.count("content-length") > 0 || is_http_1_0())) return false;
  if (head.count("content-length") > 1) return false;
  const std::string* length = head.field("content-length");
  if (length != nullptr && (length->empty() || length->size() > 19 ||
                            length->find_first_not_of("0123456789") != std::string::npos))
    return false;
  return head.count("host") == 1;
}

bool RequestParser::read_head(std::string_view head) {
  error_code ec;
  impl_->eager(false);
  impl_->put(boost::asio::buffer(head.data(), head.size()), ec);
  const bool broken = (ec && ec != beast::http::error::need_more) || !impl_->is_header_done();
  const bool other_version = !broken && impl_->version != 10 && impl_->version != 11;
  if (ec == beast::http::error::bad_version || other_version) {
    fault_ = Fault::kVersion;
  } else if (broken || !check_fields()) {
    fault_ = Fault::kBadRequest;
  }
  impl_->head.has_body = impl_->is_header_done() && !impl_->is_done();
  impl_->eager(true);
  if (!fault_ && impl_->chunked()) impl_->chunks.emplace(impl_->limits);
  return !fault_;
}

size_t RequestParser::read_body(std::string_view data, uint64_t limit) {
  if (impl_->chunks) {
    const size_t taken = impl_->chunks->take(data, limit, impl_->body);
    fault_ = impl_->chunks->fault();
    return taken;
  }
  error_code ec;
  impl_->limit = limit;
  const size_t used = impl_->put(boost::asio::buffer(data.data(), data.size()), ec);
  if (ec && ec != beast::http::error::need_more) {
    fault_ = impl_->fault.value_or(Fault::kBadRequest);
  }
  return used;
}

}  // namespace facet::http
