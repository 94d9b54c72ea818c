#pragma once

#include <string>

namespace facet::test {

/// A tokenizer.json of a few hundred entries for fuzz targets: the control tokens of text at their
/// ids, all bytes, and merges across newlines, across spaces and of the spaces themselves. The
/// ids of media are beyond its end.
std::string small_vocabulary();

}  // namespace facet::test
