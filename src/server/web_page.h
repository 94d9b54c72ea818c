#pragma once

#include <string>
#include <string_view>

#include "server/http/message.h"

namespace facet {

/// The page at "/": src/server/web joined into one document, made at build time.
std::string_view web_page_text();

/// Serves one document that carries its only style and script within itself.
class WebPage {
 public:
  /// `html` outlives this; one <style> and one <script type="module"> are in it.
  explicit WebPage(std::string_view html);

  /// The document, or 304 without one if `head` names the version that it is. A browser asks each
  /// time (no-cache), so that page and server are of one build. The Content-Security-Policy lets
  /// the style and script run by their hashes and nothing else, and requests go to this server
  /// alone.
  http::Response answer(const http::RequestHead& head) const;

 private:
  std::string_view html_;
  std::string etag_;
  std::string policy_;
};

}  // namespace facet
