#include "cli/cpu_weights_cache.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fmt/core.h>
#include <fstream>

#include "base/checksum.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "checkpoint/safetensors_writer.h"

namespace facet::cli {
namespace {

constexpr const char* kTensor = "data";
constexpr const char* kMark = "facet_cpu_weights";
constexpr const char* kVersion = "1";  // of the layout and of the encoders
constexpr size_t kPiece = size_t{64} << 20;

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

SafetensorsWriter::Metadata metadata_of(const WeightsIdentity& identity,
                                        std::span<const std::byte> data) {
  return {{kMark, kVersion},
          {"format", identity.format},
          {"checkpoint", hex(identity.checkpoint)},
          {"checksum", hex(checksum(data))}};
}

/// Whether the file begins as one that write_weights_cache made, however it goes on.
bool is_ours(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::array<char, 512> start{};
  in.read(start.data(), start.size());
  const std::string_view read(start.data(), static_cast<size_t>(in.gcount()));
  return read.find(kMark) != std::string_view::npos;
}

/// What is wrong with an opened cache; empty: nothing.
std::string fault_of(const SafetensorsFile& file, const WeightsIdentity& identity) {
  const auto entry = [&](const char* name) {
    const auto found = file.metadata().find(name);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  if (entry(kMark) != kVersion) return "was made by another version";
  if (entry("format") != identity.format) {
    return fmt::format("holds {}, wanted {}", printable(entry("format"), 20), identity.format);
  }
  if (entry("checkpoint") != hex(identity.checkpoint)) return "was made from another checkpoint";
  const StoredTensor* tensor = file.find(kTensor);
  if (tensor == nullptr || std::ssize(tensor->bytes) != identity.bytes) {
    return fmt::format("does not hold {} bytes of data", identity.bytes);
  }
  if (entry("checksum") != hex(checksum(tensor->bytes))) return "is damaged (checksum)";
  return {};
}

}  // namespace

std::optional<SafetensorsFile> open_weights_cache(const std::string& path,
                                                  const WeightsIdentity& identity) {
  std::error_code absent;
  if (!std::filesystem::exists(path, absent)) return std::nullopt;
  if (!std::filesystem::is_regular_file(path, absent) || !is_ours(path)) {
    throw Error(ErrorCode::kUsage, "exists and is no cache of weights: delete it or name another",
                "--cpu-weights-cache " + printable(path));
  }
  std::string fault;
  try {
    SafetensorsFile file(path);
    fault = fault_of(file, identity);
    if (fault.empty()) return file;
  } catch (const Error& error) {
    fault = fmt::format("is damaged ({})", error.message());
  }
  log_warning("load", "--cpu-weights-cache {}: {}; making it anew", path, fault);
  return std::nullopt;
}

std::span<const std::byte> cached_data(const SafetensorsFile& file) {
  return file.find(kTensor)->bytes;
}

void write_weights_cache(const std::string& path,
                         const WeightsIdentity& identity,
                         std::span<const std::byte> data) {
  SafetensorsWriter writer(metadata_of(identity, data));
  writer.declare(kTensor, DType::kU8, {std::ssize(data)});
  writer.write(path, [&](const SafetensorsWriter::Tensor&, const SafetensorsWriter::Sink& sink) {
    for (size_t at = 0; at < data.size(); at += kPiece) {
      sink(data.subspan(at, std::min(kPiece, data.size() - at)));
    }
  });
}

}  // namespace facet::cli
