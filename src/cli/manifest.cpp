#include "cli/manifest.h"

#include <array>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <filesystem>
#include <fmt/core.h>
#include <map>
#include <memory>
#include <openssl/evp.h>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/partial_file.h"
#include "base/text.h"
#include "checkpoint/json.h"
#include "cli/progress.h"

namespace facet::cli {
namespace {

namespace fs = std::filesystem;

struct FileDigest {
  int64_t bytes = 0;
  std::string sha256;
  bool operator==(const FileDigest&) const = default;
};

constexpr size_t kBlock = size_t{64} << 20;

FileDigest digest(const fs::path& path) {
  const MappedFile file(path);
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  Progress progress(path.filename(), static_cast<int64_t>(file.bytes().size()),
                    Progress::Unit::kBytes);
  for (size_t at = 0; at < file.bytes().size(); at += kBlock) {
    const auto block = file.bytes().subspan(at, std::min(kBlock, file.bytes().size() - at));
    EVP_DigestUpdate(context.get(), block.data(), block.size());
    progress.update(static_cast<int64_t>(at + block.size()));
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned length = 0;
  EVP_DigestFinal_ex(context.get(), bytes.data(), &length);
  FileDigest result{static_cast<int64_t>(file.bytes().size()), {}};
  for (unsigned i = 0; i < length; ++i) result.sha256 += fmt::format("{:02x}", bytes[i]);
  return result;
}

/// All regular files of the folder but the manifest itself, which may lie there.
std::map<std::string, FileDigest> digests(const std::string& folder, const std::string& manifest) {
  std::map<std::string, FileDigest> files;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (fs::equivalent(entry.path(), manifest, absent)) continue;
    if (entry.is_regular_file()) files[entry.path().filename()] = digest(entry.path());
  }
  return files;
}

std::map<std::string, FileDigest> read_manifest(const std::string& path) {
  const boost::json::object root = read_json_object(path);
  const JsonReader reader(root, path);
  const boost::json::value* list = reader.find("files");
  if (list == nullptr || !list->is_array()) reader.fail("files", "wanted a list");
  std::map<std::string, FileDigest> files;
  for (const boost::json::value& entry : list->get_array()) {
    if (!entry.is_object()) reader.fail("files", "wanted a list of objects");
    const JsonReader file(entry.get_object(), path);
    const auto name = file.string("name");
    const auto bytes = file.integer("bytes");
    const auto sha256 = file.string("sha256");
    if (!name || !bytes || !sha256) reader.fail("files", "wanted name, bytes and sha256 in each");
    files[*name] = {*bytes, *sha256};
  }
  return files;
}

}  // namespace

void write_manifest(const std::string& folder, const std::string& path) {
  boost::json::array list;
  for (const auto& [name, file] : digests(folder, path)) {
    list.push_back(
        boost::json::object{{"name", name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  write_file(path, boost::json::serialize(boost::json::object{{"files", std::move(list)}}) + '\n');
}

void check_manifest(const std::string& folder, const std::string& path) {
  const auto wanted = read_manifest(path);
  const auto found = digests(folder, path);
  std::string faults;
  for (const auto& [name, file] : wanted) {
    const auto here = found.find(name);
    if (here == found.end()) {
      faults += fmt::format("\n  missing  {}", printable(name));
    } else if (here->second != file) {
      faults += fmt::format("\n  differs  {}: found {} bytes sha256 {}, wanted {} bytes sha256 {}",
                            printable(name), here->second.bytes, here->second.sha256, file.bytes,
                            printable(file.sha256));
    }
  }
  for (const auto& [name, file] : found) {
    if (!wanted.contains(name)) faults += fmt::format("\n  extra    {}", printable(name));
  }
  if (!faults.empty()) {
    throw Error(ErrorCode::kBadCheckpoint, "does not match the manifest " + path + faults, folder);
  }
}

}  // namespace facet::cli
