#include "checkpoint/check_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include "base/error.h"
#include "checkpoint/safetensors_writer.h"
#include "tests/support.h"

namespace facet {
namespace {

using testing::HasSubstr;

/// What check_values says about one tensor of `bytes`.
std::string fault_of(DType dtype, int64_t count, const std::string& bytes) {
  const test::TempDir dir;
  dir.write("config.json", "{}");
  SafetensorsWriter writer;
  writer.declare("x", dtype, Shape{count});
  writer.write(dir.path("model.safetensors"),
               [&](const SafetensorsWriter::Tensor&, const SafetensorsWriter::Sink& sink) {
                 sink(std::as_bytes(std::span(bytes)));
               });
  const Checkpoint checkpoint(dir.path(""));
  int64_t seen = 0;
  try {
    check_values(checkpoint, [&](int64_t done) { seen = done; });
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
    return error.what();
  }
  EXPECT_EQ(seen, static_cast<int64_t>(bytes.size()));
  return {};
}

template <typename Word>
std::string bytes_of(std::vector<Word> words) {
  return {reinterpret_cast<const char*>(words.data()), words.size() * sizeof(Word)};
}

TEST(CheckValues, FindsNaNAndInfinityAnywhere) {
  constexpr size_t kCount = 9000;  // more than two stretches of the scan
  for (const size_t at : {size_t{0}, size_t{4095}, size_t{4096}, kCount - 1}) {
    for (const uint16_t bad : {uint16_t{0x7f80}, uint16_t{0xff80}, uint16_t{0x7fc1}}) {
      std::vector<uint16_t> words(kCount, 0x7f7f);  // the largest that is finite
      EXPECT_EQ(fault_of(DType::kBF16, kCount, bytes_of(words)), "");
      words[at] = bad;
      EXPECT_THAT(fault_of(DType::kBF16, kCount, bytes_of(words)),
                  testing::AllOf(HasSubstr("x"), HasSubstr("value " + std::to_string(at) + " is")));
    }
    std::vector<uint32_t> words(kCount, 0xff7fffff);
    EXPECT_EQ(fault_of(DType::kF32, kCount, bytes_of(words)), "");
    words[at] = 0x7f800001;
    EXPECT_THAT(fault_of(DType::kF32, kCount, bytes_of(words)), HasSubstr(std::to_string(at)));
    std::vector<uint16_t> halves(kCount, 0x7bff);
    EXPECT_EQ(fault_of(DType::kF16, kCount, bytes_of(halves)), "");
    halves[at] = 0xfc00;
    EXPECT_THAT(fault_of(DType::kF16, kCount, bytes_of(halves)), HasSubstr(std::to_string(at)));
  }
}

TEST(CheckValues, OtherTypesHoldNoFloats) {
  EXPECT_EQ(fault_of(DType::kU8, 4, std::string(4, '\xff')), "");
}

}  // namespace
}  // namespace facet
