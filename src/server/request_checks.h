#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/http/message.h"

namespace facet {

// What is looked at in a request's head before its body is read. Each throws ApiError.

/// `host` must name this machine's loopback or be one of `allowed`; a port behind it does not count
/// (C-11: a page of another name that resolves to loopback must not get through).
void check_host(std::string_view host, const std::vector<std::string>& allowed);
/// May a page be taken for the server's own because its Origin is what Host says? Not where Host
/// can be any name and no key is needed: a name that was made to resolve to the server would do.
enum class HostTrust { kNo, kYes };
/// Requests that a web page sends carry Origin; it must be one of `allowed` (C-12), or with kYes
/// the server's own.
void check_origin(const http::RequestHead& head,
                  const std::vector<std::string>& allowed,
                  HostTrust trust);
/// No compressed bodies (C-08).
void check_encoding(const http::RequestHead& head);
/// JSON only: a form of a web page cannot say so (C-09).
void check_content_type(const http::RequestHead& head);

}  // namespace facet
