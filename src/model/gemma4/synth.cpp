#include "model/gemma4/synth.h"

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstring>
#include <filesystem>
#include <fmt/core.h>
#include <map>
#include <span>

#include "base/check.h"
#include "base/error.h"
#include "base/partial_file.h"
#include "base/text.h"
#include "checkpoint/safetensors_writer.h"

namespace facet::gemma4 {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kChunk = int64_t{16} << 20;  // bytes made before they are written
constexpr int64_t kPiece = int64_t{1} << 16;   // draws that one thread makes at a time

/// Makes the bytes of tensors, in chunks.
class TensorSource {
 public:
  TensorSource(uint64_t seed, WorkerPool& pool) : seed_(seed), pool_(pool) {}

  void supply(const SynthTensor& tensor, const SafetensorsWriter::Sink& sink) {
    const uint64_t key = random_key(seed_, tensor.name);
    if (tensor.dtype == DType::kI64) {
      sink(std::as_bytes(std::span(tensor.extents)));
    } else if (tensor.dtype == DType::kF32) {
      supply_floats(tensor, key, sink);
    } else {
      supply_draws(tensor, key, sink);
    }
  }

 private:
  /// Scales: few enough for a plain loop.
  static void supply_floats(const SynthTensor& tensor,
                            uint64_t key,
                            const SafetensorsWriter::Sink& sink) {
    CHECK(tensor.law.shape == Law::Shape::kUniform, "{}: a law for tables", tensor.name);
    std::vector<float> values(static_cast<size_t>(tensor.shape.elements()));
    for (size_t i = 0; i < values.size(); ++i) {
      const double at = 2.0 * random_unit(key + i) - 1.0;
      values[i] = static_cast<float>(tensor.law.mean + tensor.law.spread * at);
    }
    sink(std::as_bytes(std::span(values)));
  }

  void supply_draws(const SynthTensor& tensor, uint64_t key, const SafetensorsWriter::Sink& sink) {
    const RandomTable& table = tables_.get(tensor.dtype, tensor.law);
    const int64_t width = table.draw_bytes();
    buffer_.resize(static_cast<size_t>(std::min(kChunk, tensor.bytes)));
    for (int64_t at = 0; at < tensor.bytes; at += kChunk) {
      const int64_t size = std::min(kChunk, tensor.bytes - at);
      const auto chunk = std::span(buffer_).first(static_cast<size_t>(size));
      pool_.parallel_for(size / width, kPiece, [&](int64_t begin, int64_t end) {
        table.fill(key, at / width + begin,
                   chunk.subspan(static_cast<size_t>(begin * width),
                                 static_cast<size_t>((end - begin) * width)));
      });
      sink(chunk);
    }
  }

  const uint64_t seed_;
  WorkerPool& pool_;
  RandomTables tables_;
  std::vector<std::byte> buffer_;
};

using Shard = std::span<const SynthTensor>;

std::vector<Shard> split(std::span<const SynthTensor> tensors, int64_t shard_bytes) {
  std::vector<Shard> shards;
  size_t first = 0;
  int64_t bytes = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (i > first && bytes + tensors[i].bytes > shard_bytes) {
      shards.push_back(tensors.subspan(first, i - first));
      first = i;
      bytes = 0;
    }
    bytes += tensors[i].bytes;
  }
  shards.push_back(tensors.subspan(first));
  return shards;
}

std::string shard_name(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

void write_index(const std::string& path, const SynthPlan& plan, const std::vector<Shard>& shards) {
  std::map<std::string, std::string> files;
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const SynthTensor& tensor : shards[i]) files[tensor.name] = shard_name(i, shards.size());
  }
  boost::json::object map;
  map.reserve(files.size());
  for (const auto& [tensor, file] : files) map[tensor] = file;
  const boost::json::object index = {
      {"metadata", boost::json::object{{"total_size", plan.bytes}}},
      {"weight_map", std::move(map)},
  };
  write_file(path, boost::json::serialize(index) + '\n');
}

void write_shard(const std::string& path,
                 Shard shard,
                 TensorSource& source,
                 const std::function<void(int64_t bytes)>& on_tensor) {
  SafetensorsWriter writer(SafetensorsWriter::Metadata{{"format", "pt"}});
  std::map<std::string_view, const SynthTensor*> by_name;
  for (const SynthTensor& tensor : shard) {
    writer.declare(tensor.name, tensor.dtype, tensor.shape);
    by_name.emplace(tensor.name, &tensor);
  }
  writer.write(path,
               [&](const SafetensorsWriter::Tensor& tensor, const SafetensorsWriter::Sink& sink) {
                 source.supply(*by_name.at(tensor.name), [&](std::span<const std::byte> bytes) {
                   sink(bytes);
                   on_tensor(static_cast<int64_t>(bytes.size()));
                 });
               });
}

}  // namespace

std::vector<std::string> write_synth(const SynthPlan& plan,
                                     const std::string& out,
                                     int64_t shard_bytes,
                                     WorkerPool& pool,
                                     const OnSynthBytes& on_bytes) {
  const std::vector<Shard> shards = split(plan.tensors, shard_bytes);
  TensorSource source(plan.seed, pool);
  std::vector<std::string> written;
  int64_t done = 0;
  try {
    for (size_t i = 0; i < shards.size(); ++i) {
      const std::string path = out + "/" + shard_name(i, shards.size());
      write_shard(path, shards[i], source, [&](int64_t bytes) { on_bytes(done += bytes); });
      written.push_back(path);
    }
    if (shards.size() > 1) {
      written.push_back(out + "/model.safetensors.index.json");
      write_index(written.back(), plan, shards);
    }
    return written;
  } catch (...) {
    for (const std::string& path : written) {
      std::error_code ignored;
      fs::remove(path, ignored);
    }
    throw;
  }
}

void check_room(const std::string& out, int64_t bytes) {
  std::error_code fault;
  const fs::space_info room = fs::space(out, fault);
  if (fault) throw Error(ErrorCode::kIo, fault.message(), out);
  if (room.available >= static_cast<uintmax_t>(bytes)) return;
  throw Error(ErrorCode::kIo,
              fmt::format("no room: {} needed, {} free", human_bytes(bytes),
                          human_bytes(static_cast<int64_t>(room.available))),
              out);
}

}  // namespace facet::gemma4
