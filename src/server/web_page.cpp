#include "server/web_page.h"

#include <array>
#include <fmt/core.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include "base/check.h"

namespace facet {
namespace {

/// SHA-256 in base64, as a policy names a source: "sha256-…".
std::string hash_of(std::string_view text) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  std::array<unsigned char, 4 * ((SHA256_DIGEST_LENGTH + 2) / 3) + 1> base64{};
  const int length = EVP_EncodeBlock(base64.data(), digest.data(), SHA256_DIGEST_LENGTH);
  return "sha256-" + std::string(base64.begin(), base64.begin() + length);
}

/// What stands between the first `begin` and the `end` behind it.
std::string_view between(std::string_view text, std::string_view begin, std::string_view end) {
  const size_t first = text.find(begin);
  CHECK(first != std::string_view::npos, "the page has no {}", begin);
  const size_t last = text.find(end, first);
  CHECK(last != std::string_view::npos, "the page has no {}", end);
  return text.substr(first + begin.size(), last - first - begin.size());
}

}  // namespace

WebPage::WebPage(std::string_view html)
    : html_(html),
      etag_(fmt::format("\"{}\"", hash_of(html))),
      policy_(
          fmt::format("default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; "
                      "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                      "require-trusted-types-for 'script'; trusted-types 'none'",
                      hash_of(between(html, "<script type=\"module\">", "</script>")),
                      hash_of(between(html, "<style>", "</style>")))) {}

http::Response WebPage::answer(const http::RequestHead& head) const {
  http::Response response;
  response.content_type = "text/html; charset=utf-8";
  response.fields = {{"Cache-Control", "no-cache"},
                     {"ETag", etag_},
                     {"Content-Security-Policy", policy_},
                     {"Cross-Origin-Opener-Policy", "same-origin"},
                     {"Cross-Origin-Resource-Policy", "same-origin"},
                     {"Referrer-Policy", "no-referrer"},
                     {"X-Frame-Options", "DENY"}};
  const std::string* known = head.field("if-none-match");
  if (known != nullptr && known->find(etag_) != std::string::npos) {
    response.status = 304;
  } else {
    response.body = html_;
  }
  return response;
}

}  // namespace facet
