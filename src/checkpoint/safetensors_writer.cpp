#include "checkpoint/safetensors_writer.h"

#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/partial_file.h"
#include "base/text.h"
#include "checkpoint/safetensors_header.h"

namespace facet {
namespace {

// The reference's dtypes from the narrowest alignment to the widest; its order within one width is
// arbitrary but part of the layout.
constexpr std::array kOrder = {
    DType::kBool,       DType::kF4,     DType::kF6E2M3, DType::kF6E3M2, DType::kU8,
    DType::kI8,         DType::kF8E5M2, DType::kF8E4M3, DType::kF8E8M0, DType::kF8E4M3FNUZ,
    DType::kF8E5M2FNUZ, DType::kI16,    DType::kU16,    DType::kF16,    DType::kBF16,
    DType::kI32,        DType::kU32,    DType::kF32,    DType::kC64,    DType::kF64,
    DType::kI64,        DType::kU64};

auto rank_of(DType dtype) { return std::find(kOrder.begin(), kOrder.end(), dtype); }

std::string quoted(const std::string& text) {
  return boost::json::serialize(boost::json::string_view(text));
}

/// The header's JSON for `tensors` in the order of the file, padded with spaces to a multiple of 8.
std::string header_text(const SafetensorsWriter::Metadata& metadata,
                        const std::vector<const SafetensorsWriter::Tensor*>& tensors) {
  std::string text = "{";
  if (!metadata.empty()) {
    std::string members;
    for (const auto& [key, value] : metadata) {
      if (!members.empty()) members += ',';
      members += quoted(key) + ":" + quoted(value);
    }
    text += "\"__metadata__\":{" + members + "}";
  }
  int64_t at = 0;
  for (const SafetensorsWriter::Tensor* tensor : tensors) {
    const std::span<const int64_t> extents = tensor->shape.extents();
    if (text.size() > 1) text += ',';
    text += fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                        quoted(tensor->name), to_string(tensor->dtype),
                        fmt::join(extents.begin(), extents.end(), ","), at, at + tensor->bytes);
    at += tensor->bytes;
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

bool well_formed(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(Metadata metadata) : metadata_(std::move(metadata)) {}

void SafetensorsWriter::declare(const std::string& name, DType dtype, const Shape& shape) {
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorCode::kBadCheckpoint, fmt::format("tensor {}: {}", printable(name), why));
  };
  if (name == "__metadata__" || name.size() > kMaxTensorName || !well_formed(name))
    refuse("cannot be written under this name");
  const std::optional<int64_t> bits = stored_bits(dtype, shape);
  if (!bits || *bits % 8 != 0)
    refuse(fmt::format("{} {} cannot be written", to_string(dtype), to_string(shape)));
  if (!tensors_.emplace(name, Tensor{name, dtype, shape, *bits / 8}).second)
    refuse("declared twice");
}

void SafetensorsWriter::write(const std::string& path, const Supply& supply) const {
  std::vector<const Tensor*> order;
  for (const auto& [name, tensor] : tensors_) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const Tensor* a, const Tensor* b) {
    return rank_of(a->dtype) > rank_of(b->dtype);
  });
  const std::string header = header_text(metadata_, order);
  std::array<std::byte, 8> length{};
  for (size_t i = 0; i < length.size(); ++i)
    length[i] = static_cast<std::byte>(header.size() >> (8 * i) & 0xFF);

  PartialFile file(path);
  file.append(length);
  file.append(std::as_bytes(std::span(header)));
  for (const Tensor* tensor : order) {
    int64_t supplied = 0;
    supply(*tensor, [&](std::span<const std::byte> bytes) {
      supplied += static_cast<int64_t>(bytes.size());
      if (supplied <= tensor->bytes) file.append(bytes);
    });
    if (supplied == tensor->bytes) continue;
    throw Error(ErrorCode::kInternal,
                fmt::format("tensor {}: {} bytes supplied, {} declared", printable(tensor->name),
                            supplied, tensor->bytes),
                path);
  }
  file.commit();
}

}  // namespace facet
