// A config.json of any bytes: it is refused with an Error, or it is well-formed and says the same
// after it was written out and read again; and reading its fields, whatever they hold, ends in a
// value or an Error.

#include <boost/json/serialize.hpp>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/json.h"
#include "checkpoint/quant_config.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

template <typename Body>
void may_refuse(Body&& body) {
  try {
    body();
  } catch (const facet::Error& error) {
    require(error.code() == facet::ErrorCode::kBadCheckpoint);
    require(error.what()[0] != '\0');
  }
}

void read_all(const facet::JsonReader& reader) {
  for (const auto& member : reader.get()) {
    const std::string_view name(member.key().data(), member.key().size());
    may_refuse([&] { reader.integer(name); });
    may_refuse([&] { reader.number(name); });
    may_refuse([&] { reader.boolean(name); });
    may_refuse([&] { reader.string(name); });
    may_refuse([&] { reader.strings(name); });
    may_refuse([&] { reader.integers(name); });
    may_refuse([&] {
      if (const auto inner = reader.object(name)) read_all(*inner);
    });
  }
}

void check(std::string_view text) {
  const boost::json::value value = facet::parse_json(text);
  for (size_t i = 0; i < text.size();) {
    const size_t length = facet::utf8_length(text.substr(i));
    require(length > 0);
    i += length;
  }
  const std::string written = boost::json::serialize(value);
  require(boost::json::serialize(facet::parse_json(written)) == written);
  if (!value.is_object()) return;
  read_all(facet::JsonReader(value.get_object(), "config.json"));
  may_refuse([&] {
    const auto config = facet::QuantConfig::parse(value.get_object(), std::nullopt);
    config.scheme_of("model.language_model.layers.0.mlp.gate_proj");
  });
  may_refuse([&] { facet::QuantConfig::parse({}, value.get_object()); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  may_refuse([&] { check({reinterpret_cast<const char*>(data), size}); });
  return 0;
}
