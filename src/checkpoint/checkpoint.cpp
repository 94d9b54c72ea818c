#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <fmt/core.h>
#include <map>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/fault_report.h"
#include "checkpoint/json.h"

namespace facet {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr int64_t kMaxConfig = 16 << 20;  // bytes (ST-5)
constexpr int64_t kMaxIndex = 64 << 20;   // bytes (ST-5)

[[noreturn]] void refuse(std::string message) {
  throw Error(ErrorCode::kBadCheckpoint, std::move(message));
}

std::string join(const std::string& folder, std::string_view name) {
  return (fs::path(folder) / name).string();
}

/// True also for a link that leads nowhere: opening it then fails with a reason, which is better
/// than to pass over it.
bool is_there(const std::string& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

void check_folder(const std::string& folder) {
  std::error_code failure;
  const fs::file_status status = fs::status(folder, failure);
  if (status.type() == fs::file_type::not_found) refuse("there is no such folder");
  if (failure) throw Error(ErrorCode::kIo, failure.message());
  if (!fs::is_directory(status)) {
    refuse("is not a folder; a checkpoint is a folder with config.json and model.safetensors");
  }
}

std::optional<boost::json::object> read_if_there(const std::string& folder, const char* name) {
  const std::string path = join(folder, name);
  if (!is_there(path)) return std::nullopt;
  return read_json_object(path, kMaxConfig);
}

/// The weight map by file: names of tensors as the index lists them.
using FileNames = std::map<std::string, std::vector<std::string_view>, std::less<>>;

/// ST-4: a name that can lead nowhere but into the folder.
bool is_base_name(std::string_view name) {
  return !name.empty() && name != "." && name.find("..") == std::string_view::npos &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

FileNames names_by_file(const boost::json::object& weight_map, FaultReport& faults) {
  FileNames result;
  for (const auto& [key, value] : weight_map) {
    const std::string_view tensor(key.data(), key.size());
    if (!value.is_string()) {
      faults.bad(tensor, "its value in weight_map is not a file name");
      continue;
    }
    result[std::string(value.get_string().data(), value.get_string().size())].push_back(tensor);
  }
  return result;
}

/// Opens a shard; a fault goes into the report and the result is then empty.
std::optional<SafetensorsFile> open_shard(const std::string& folder,
                                          const std::string& name,
                                          FaultReport& faults) {
  if (!is_base_name(name)) {
    faults.bad(name, "weight_map may only name files of its own folder");
    return std::nullopt;
  }
  if (!is_there(join(folder, name))) {
    faults.missing(name, "as a file of the folder, because weight_map names it");
    return std::nullopt;
  }
  try {
    return SafetensorsFile(join(folder, name));
  } catch (const Error& error) {
    faults.bad(name, error.message());
    return std::nullopt;
  }
}

/// Every name that the map puts into `file` is there, and the map puts every tensor of it there;
/// so a tensor that two files hold is always a fault of one of them.
void compare(const SafetensorsFile& file,
             const std::string& file_name,
             const std::vector<std::string_view>& listed,
             const boost::json::object& weight_map,
             FaultReport& faults) {
  for (const std::string_view name : listed) {
    if (file.find(name) == nullptr)
      faults.missing(name, fmt::format("in {}, where weight_map puts it", printable(file_name)));
  }
  for (const StoredTensor& tensor : file.tensors()) {
    const boost::json::value* mapped = weight_map.if_contains(tensor.name);
    if (mapped == nullptr) {
      faults.extra(tensor.name, fmt::format("in {}, but not in weight_map", printable(file_name)));
    } else if (mapped->is_string() && mapped->get_string() != file_name) {
      faults.extra(tensor.name,
                   fmt::format("in {}, but weight_map puts it in {}", printable(file_name),
                               printable(mapped->get_string().c_str())));
    }
  }
}

/// The shards of an index file, all checks of ST-4 done and reported together.
std::vector<SafetensorsFile> open_shards(const std::string& folder) {
  const boost::json::object index = read_json_object(join(folder, kIndex), kMaxIndex);
  return in_place(kIndex, [&] {
    const JsonReader reader(index, {});
    const std::optional<JsonReader> map = reader.object("weight_map");
    if (!map) reader.fail("weight_map", "missing, wanted an object of tensor and file names");
    if (map->get().empty()) reader.fail("weight_map", "names no tensor");
    FaultReport faults;
    std::vector<SafetensorsFile> files;
    for (const auto& [name, tensors] : names_by_file(map->get(), faults)) {
      std::optional<SafetensorsFile> file = open_shard(folder, name, faults);
      if (!file) continue;
      compare(*file, name, tensors, map->get(), faults);
      files.push_back(std::move(*file));
    }
    faults.throw_if_any();
    return files;
  });
}

std::vector<SafetensorsFile> open_files(const std::string& folder) {
  if (is_there(join(folder, kIndex))) return open_shards(folder);
  if (!is_there(join(folder, kSingle)))
    refuse(fmt::format("holds no weights: looked for {} and {}", kIndex, kSingle));
  std::vector<SafetensorsFile> files;
  files.emplace_back(join(folder, kSingle));
  return files;
}

}  // namespace

Checkpoint::Checkpoint(const std::string& folder) : folder_(folder) {
  in_place(printable(folder), [&] {
    check_folder(folder);
    if (!is_there(join(folder, kConfig))) refuse("holds no config.json, which describes the model");
    config_ = read_json_object(join(folder, kConfig), kMaxConfig);
    hf_quant_config_ = read_if_there(folder, "hf_quant_config.json");
    generation_config_ = read_if_there(folder, "generation_config.json");
    files_ = open_files(folder);
  });
  for (const SafetensorsFile& file : files_) {
    for (const StoredTensor& tensor : file.tensors()) tensors_.push_back(&tensor);
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const StoredTensor* a, const StoredTensor* b) { return a->name < b->name; });
}

const StoredTensor* Checkpoint::find(std::string_view name) const {
  const auto found = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const StoredTensor* tensor, std::string_view key) { return tensor->name < key; });
  return found == tensors_.end() || (*found)->name != name ? nullptr : *found;
}

int64_t Checkpoint::file_bytes() const {
  int64_t total = 0;
  for (const SafetensorsFile& file : files_) total += file.file_bytes();
  return total;
}

}  // namespace facet
