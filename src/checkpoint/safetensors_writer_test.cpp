#include "checkpoint/safetensors_writer.h"

#include <csignal>
#include <cstring>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "base/error.h"
#include "checkpoint/safetensors.h"
#include "tests/support.h"

namespace facet {
namespace {

using testing::HasSubstr;
using Tensor = SafetensorsWriter::Tensor;
using Sink = SafetensorsWriter::Sink;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

void supply_zeros(const Tensor& tensor, const Sink& sink) {
  sink(bytes_of(std::string(static_cast<size_t>(tensor.bytes), '\0')));
}

size_t files_in(const test::TempDir& dir) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir.path()))
    ++count;
  return count;
}

TEST(SafetensorsWriter, WritesTheLayoutOfTheReference) {
  // The text below is what safetensors 0.8.0 wrote for the same two tensors.
  SafetensorsWriter writer(SafetensorsWriter::Metadata{{"format", "pt"}});
  writer.declare("a\"\\/\u00e9\x7f\n\x01", DType::kU8, {0});
  writer.declare("", DType::kU8, {0});
  const test::TempDir dir;
  writer.write(dir.path("x"), supply_zeros);
  EXPECT_EQ(test::read_text(dir.path("x")),
            std::string("\x98\0\0\0\0\0\0\0", 8) +
                R"({"__metadata__":{"format":"pt"},"":{"dtype":"U8","shape":[0],)"
                R"("data_offsets":[0,0]},"a\"\\/)"
                "\u00e9\x7f"
                R"(\n\u0001":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}} )");
}

TEST(SafetensorsWriter, OrdersByDtypeThenName) {
  // The order of safetensors 0.8.0 for one empty tensor of each dtype.
  const std::vector<std::string> wanted = {
      "U64",     "I64",     "F64", "C64", "F32",         "U32",         "I32",
      "BF16",    "F16",     "U16", "I16", "F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0",
      "F8_E4M3", "F8_E5M2", "I8",  "U8",  "F4",          "BOOL"};
  SafetensorsWriter writer;
  for (const std::string& name : wanted) {
    writer.declare(name + ".b", *dtype_from_string(name), {8});
    writer.declare(name + ".a", *dtype_from_string(name), {8});
  }
  const test::TempDir dir;
  std::vector<std::string> asked;
  writer.write(dir.path("x"), [&](const Tensor& tensor, const Sink& sink) {
    asked.push_back(tensor.name);
    supply_zeros(tensor, sink);
  });
  ASSERT_EQ(asked.size(), 2 * wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(asked[2 * i], wanted[i] + ".a");
    EXPECT_EQ(asked[2 * i + 1], wanted[i] + ".b");
  }
  EXPECT_EQ(SafetensorsFile(dir.path("x")).tensors().size(), asked.size());
}

TEST(SafetensorsWriter, StreamsPiecesAndReadsBack) {
  constexpr int64_t kBig = (3 << 20) + 5;  // more than is gathered for one system call
  SafetensorsWriter writer;
  writer.declare("big", DType::kU8, {kBig});
  writer.declare("scalar", DType::kF32, {});
  writer.declare("none", DType::kBF16, {4, 0});
  const test::TempDir dir;
  const std::string path = dir.path("x.safetensors");
  writer.write(path, [&](const Tensor& tensor, const Sink& sink) {
    if (tensor.name == "none") return;
    for (int64_t i = 0; i < tensor.bytes;) {
      const int64_t piece = std::min<int64_t>(tensor.bytes - i, 1 + i);
      std::string text(static_cast<size_t>(piece), '\0');
      for (int64_t j = 0; j < piece; ++j)
        text[static_cast<size_t>(j)] = static_cast<char>((i + j) % 251);
      sink(bytes_of(text));
      i += piece;
    }
  });
  const SafetensorsFile file(path);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.tensors()[0].bytes.data()) % 8, 0u);
  const auto bytes = file.find("big")->bytes;
  ASSERT_EQ(bytes.size(), static_cast<size_t>(kBig));
  for (size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(std::to_integer<size_t>(bytes[i]), i % 251);
  EXPECT_EQ(file.find("scalar")->bytes.size(), 4u);
  EXPECT_EQ(file.find("none")->shape, (Shape{4, 0}));
  EXPECT_EQ(files_in(dir), 1u);
}

TEST(SafetensorsWriter, RewritesReferenceFilesByteForByte) {
  FACET_REQUIRE_SHARED(goldens, "goldens");
  const test::TempDir dir;
  int32_t rewritten = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(goldens)) {
    if (entry.path().extension() != ".safetensors") continue;
    const SafetensorsFile file(entry.path().string());
    SafetensorsWriter writer(file.metadata());
    for (const StoredTensor& tensor : file.tensors())
      writer.declare(tensor.name, tensor.dtype, tensor.shape);
    writer.write(dir.path("copy"), [&](const Tensor& tensor, const Sink& sink) {
      sink(file.find(tensor.name)->bytes);
    });
    EXPECT_TRUE(test::read_text(dir.path("copy")) == test::read_text(entry.path().string()))
        << entry.path();
    ++rewritten;
  }
  EXPECT_GT(rewritten, 10);
}

TEST(SafetensorsWriter, RefusesWhatCouldNotBeReadBack) {
  SafetensorsWriter writer;
  writer.declare("a", DType::kF32, {2});
  EXPECT_THROW(writer.declare("a", DType::kF32, {2}), Error);
  EXPECT_THROW(writer.declare("__metadata__", DType::kF32, {2}), Error);
  EXPECT_THROW(writer.declare("x\xFF", DType::kF32, {2}), Error);
  EXPECT_THROW(writer.declare(std::string(4097, 'x'), DType::kF32, {2}), Error);
  EXPECT_THROW(writer.declare("b", DType::kF4, {3}), Error);
  EXPECT_THROW(writer.declare("b", DType::kF32, {-1}), Error);
  EXPECT_THROW(writer.declare("b", DType::kF32, {INT64_MAX, 2}), Error);
  EXPECT_NO_THROW(writer.declare(std::string(4096, 'x'), DType::kF4, {4}));
}

/// Expects a write of one four-byte tensor to fail, with an older file untouched and nothing left.
void expect_failed_write(const SafetensorsWriter::Supply& supply, ErrorCode code) {
  const test::TempDir dir;
  dir.write("x", "older");
  SafetensorsWriter writer;
  writer.declare("a", DType::kU8, {4});
  try {
    writer.write(dir.path("x"), supply);
    ADD_FAILURE() << "written";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
  }
  EXPECT_EQ(test::read_text(dir.path("x")), "older");
  EXPECT_EQ(files_in(dir), 1u);
}

TEST(SafetensorsWriter, AFailedSupplyLeavesTheOlderFile) {
  const auto pieces = [](std::vector<std::string> texts) {
    return [texts](const Tensor&, const Sink& sink) {
      for (const std::string& text : texts) sink(bytes_of(text));
    };
  };
  expect_failed_write(pieces({}), ErrorCode::kInternal);
  expect_failed_write(pieces({"abc"}), ErrorCode::kInternal);
  expect_failed_write(pieces({"abc", "de"}), ErrorCode::kInternal);
  expect_failed_write(
      [](const Tensor&, const Sink&) { throw Error(ErrorCode::kBadInput, "no bytes"); },
      ErrorCode::kBadInput);
}

TEST(SafetensorsWriter, AFullDiskLeavesTheOlderFileAndNamesIt) {
  const test::TempDir dir;
  dir.write("x", "older");
  SafetensorsWriter writer;
  writer.declare("a", DType::kU8, {1 << 22});
  // A limit on file sizes stands for the full disk.
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1 << 20, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string what;
  try {
    writer.write(dir.path("x"), supply_zeros);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    what = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_EQ(what, dir.path("x") + ": cannot be written: " + std::strerror(EFBIG));
  EXPECT_EQ(test::read_text(dir.path("x")), "older");
  EXPECT_EQ(files_in(dir), 1u);
}

TEST(SafetensorsWriter, AFolderThatIsNotThereIsNamed) {
  const test::TempDir dir;
  try {
    SafetensorsWriter().write(dir.path("none/x"), supply_zeros);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_EQ(error.place(), dir.path("none/x"));
    EXPECT_THAT(error.what(), HasSubstr("cannot be created"));
  }
}

}  // namespace
}  // namespace facet
