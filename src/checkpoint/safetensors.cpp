#include "checkpoint/safetensors.h"

#include <algorithm>
#include <filesystem>
#include <fmt/core.h>
#include <numeric>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/lfs_pointer.h"
#include "base/text.h"
#include "checkpoint/safetensors_header.h"

namespace facet {
namespace {

constexpr size_t kPrefix = 8;  // bytes of the length in front of the header
// As the reference reader. With the fewest bytes an entry can have, it also bounds the tensors of a
// file to 2.1 million, below the 10 million of ST-1.
constexpr uint64_t kMaxHeader = 100'000'000;

[[noreturn]] void refuse(std::string message) {
  throw Error(ErrorCode::kBadCheckpoint, std::move(message));
}

[[noreturn]] void refuse(const HeaderEntry& entry, std::string_view message) {
  refuse(fmt::format("tensor {}: {}", printable(entry.name), message));
}

/// The JSON text of the header; checks 1 to 3 and 10 of checkpoint-formats 5.3.
std::string_view header_of(std::span<const std::byte> file) {
  if (file.size() < kPrefix)
    refuse(fmt::format("{} bytes are too few for a safetensors file", file.size()));
  uint64_t length = 0;
  for (size_t i = 0; i < kPrefix; ++i) length |= std::to_integer<uint64_t>(file[i]) << (8 * i);
  if (length > kMaxHeader)
    refuse(fmt::format("a header of {} bytes, more than the {} allowed", length, kMaxHeader));
  if (length > file.size() - kPrefix) {
    refuse(fmt::format("cut off: a header of {} bytes, but only {} follow its length", length,
                       file.size() - kPrefix));
  }
  const std::string_view header(reinterpret_cast<const char*>(file.data()) + kPrefix, length);
  if (!header.starts_with('{')) refuse("the header does not begin with '{'");
  return header;
}

/// Bytes of the tensor by its dtype and shape: whole bytes, without overflow.
int64_t wanted_bytes(const HeaderEntry& entry) {
  const std::optional<int64_t> bits = stored_bits(entry.dtype, entry.shape);
  if (!bits) refuse(entry, fmt::format("shape {} overflows 64 bits", to_string(entry.shape)));
  if (*bits % 8 != 0) {
    refuse(entry, fmt::format("{} {} does not fill whole bytes", to_string(entry.dtype),
                              to_string(entry.shape)));
  }
  return *bits / 8;
}

void check_size(const HeaderEntry& entry) {
  if (entry.end < entry.begin) {
    refuse(entry, fmt::format("data_offsets [{}, {}] run backwards", entry.begin, entry.end));
  }
  const int64_t wanted = wanted_bytes(entry);
  if (entry.end - entry.begin == wanted) return;
  refuse(entry, fmt::format("data_offsets [{}, {}] hold {} bytes, but {} {} takes {}", entry.begin,
                            entry.end, entry.end - entry.begin, to_string(entry.dtype),
                            to_string(entry.shape), wanted));
}

/// `entries` in the order of their bytes must fill the data from its start to its end, without hole
/// or overlap.
void check_contiguous(const std::vector<HeaderEntry>& entries, int64_t data_bytes) {
  int64_t at = 0;
  for (const HeaderEntry& entry : entries) {
    if (entry.begin != at) {
      refuse(entry,
             fmt::format("begins at byte {} of the data, wanted {} ({} the tensor before it)",
                         entry.begin, at, entry.begin > at ? "a hole after" : "overlaps"));
    }
    at = entry.end;
  }
  if (at > data_bytes) {
    refuse(fmt::format("cut off: the header describes {} bytes of data, found {}", at, data_bytes));
  }
  if (at < data_bytes) refuse(fmt::format("{} bytes follow the last tensor", data_bytes - at));
}

/// Indices of `tensors` by name, each of which must be there once. Writers order tensors of one
/// dtype by name, so there are a few long sorted runs; merging them takes far fewer comparisons of
/// long, similar names than std::sort.
std::vector<size_t> sorted_by_name(const std::vector<StoredTensor>& tensors) {
  const auto less = [&](size_t a, size_t b) { return tensors[a].name < tensors[b].name; };
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::vector<std::vector<size_t>::iterator> bounds = {order.begin()};  // of the runs
  while (bounds.back() != order.end())
    bounds.push_back(std::is_sorted_until(bounds.back(), order.end(), less));
  while (bounds.size() > 2) {
    std::vector<std::vector<size_t>::iterator> merged = {order.begin()};
    for (size_t i = 0; i + 1 < bounds.size(); i += 2) {
      const auto end = bounds[std::min(i + 2, bounds.size() - 1)];
      std::inplace_merge(bounds[i], bounds[i + 1], end, less);
      merged.push_back(end);
    }
    bounds = std::move(merged);
  }
  const auto twice = std::adjacent_find(order.begin(), order.end(),
                                        [&](size_t a, size_t b) { return !less(a, b); });
  if (twice != order.end())
    refuse(fmt::format("tensor {} appears twice", printable(tensors[*twice].name)));
  return order;
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> file) {
  const std::string_view json = header_of(file);
  const std::span<const std::byte> data = file.subspan(kPrefix + json.size());
  HeaderText header = in_place("header", [&] { return parse_header_text(json); });
  std::vector<HeaderEntry>& entries = header.entries;
  for (const HeaderEntry& entry : entries) check_size(entry);
  const auto offsets = [](const HeaderEntry& e) { return std::pair(e.begin, e.end); };
  const auto by_offset = [&](const HeaderEntry& a, const HeaderEntry& b) {
    return offsets(a) < offsets(b);
  };
  // Writers order the header by offset, so that there is seldom anything to sort.
  if (!std::is_sorted(entries.begin(), entries.end(), by_offset))
    std::stable_sort(entries.begin(), entries.end(), by_offset);

  check_contiguous(entries, static_cast<int64_t>(data.size()));

  SafetensorsHeader result;
  result.metadata = std::move(header.metadata);
  result.tensors.reserve(entries.size());
  for (HeaderEntry& entry : entries) {
    const auto begin = static_cast<size_t>(entry.begin);
    result.tensors.push_back({std::move(entry.name),
                              entry.dtype,
                              entry.shape,
                              data.subspan(begin, static_cast<size_t>(entry.end) - begin),
                              {}});
  }
  result.by_name = sorted_by_name(result.tensors);
  return result;
}

SafetensorsFile::SafetensorsFile(const std::string& path)
    : base_name_(std::make_unique<std::string>(std::filesystem::path(path).filename().string())) {
  try {
    file_ = MappedFile(path);
  } catch (const Error& error) {
    throw Error(error.code(), error.message(), *base_name_);
  }
  SafetensorsHeader header = in_place(*base_name_, [&] {
    refuse_lfs_pointer({reinterpret_cast<const char*>(file_.bytes().data()), file_.bytes().size()});
    return parse_safetensors(file_.bytes());
  });
  tensors_ = std::move(header.tensors);
  by_name_ = std::move(header.by_name);
  metadata_ = std::move(header.metadata);
  for (StoredTensor& tensor : tensors_) tensor.file = *base_name_;
}

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [&](size_t i, std::string_view key) { return tensors_[i].name < key; });
  if (found == by_name_.end() || tensors_[*found].name != name) return nullptr;
  return &tensors_[*found];
}

}  // namespace facet
