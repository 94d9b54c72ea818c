#include "checkpoint/safetensors.h"

#include <filesystem>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support.h"

namespace facet {
namespace {

using testing::HasSubstr;

std::string prefix(uint64_t length) {
  std::string text(8, '\0');
  for (size_t i = 0; i < 8; ++i) text[i] = static_cast<char>(length >> (8 * i) & 0xFF);
  return text;
}

/// A file of that header text and `data_bytes` bytes 0, 1, 2, …
std::string file_of(const std::string& header, size_t data_bytes) {
  std::string file = prefix(header.size()) + header;
  for (size_t i = 0; i < data_bytes; ++i) file.push_back(static_cast<char>(i));
  return file;
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors(std::as_bytes(std::span(file)));
}

std::string refusal(const std::string& file) {
  try {
    parse(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadCheckpoint);
    return error.what();
  }
  ADD_FAILURE() << "accepted";
  return {};
}

std::string entry(const std::string& name, int begin, int end, const std::string& dtype = "U8") {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", name, dtype,
                     end - begin, begin, end);
}

/// The refusal of a file whose one tensor "t" has these members, over 8 bytes of data.
std::string member_refusal(const std::string& members) {
  return refusal(file_of("{\"t\":{" + members + "}}", 8));
}

TEST(Safetensors, ReadsTensorsMetadataScalarsAndEmptyOnes) {
  const std::string file = file_of(
      R"({"__metadata__":{"format":"pt","a":""},)"
      R"("s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("e":{"data_offsets":[4,4],"shape":[3,0],"dtype":"BF16"},)"
      R"("m":{"dtype":"BF16","shape":[1,2],"data_offsets":[4,8],"more":{"x":[1,-2.5,{"y":null}]}}}   )",
      8);
  const SafetensorsHeader header = parse(file);
  ASSERT_EQ(header.tensors.size(), 3u);
  EXPECT_EQ(header.tensors[0].name, "s");
  EXPECT_EQ(header.tensors[0].shape, Shape{});
  EXPECT_EQ(header.tensors[0].bytes.size(), 4u);
  EXPECT_EQ(header.tensors[1].name, "e");
  EXPECT_EQ(header.tensors[1].bytes.size(), 0u);
  EXPECT_EQ(header.tensors[2].shape, (Shape{1, 2}));
  EXPECT_EQ(header.tensors[2].dtype, DType::kBF16);
  EXPECT_EQ(std::to_integer<int>(header.tensors[2].bytes[0]), 4);
  EXPECT_EQ(header.metadata.at("format"), "pt");
  EXPECT_EQ(header.metadata.size(), 2u);
}

TEST(Safetensors, OrderIsThatOfTheBytesNotOfTheHeader) {
  const auto header = parse(
      file_of("{" + entry("b", 2, 8) + "," + entry("a", 0, 2) + "," + entry("z", 2, 2) + "}", 8));
  ASSERT_EQ(header.tensors.size(), 3u);
  EXPECT_EQ(header.tensors[0].name, "a");
  EXPECT_EQ(header.tensors[1].name, "z");
  EXPECT_EQ(header.tensors[2].name, "b");
  EXPECT_EQ(header.by_name, (std::vector<size_t>{0, 2, 1}));
}

TEST(Safetensors, NoTensorsAreLegal) {
  EXPECT_TRUE(parse(file_of("{}", 0)).tensors.empty());
  EXPECT_TRUE(parse(file_of(R"({"__metadata__":{}}  )", 0)).tensors.empty());
}

TEST(Safetensors, EveryDtypeIsKnown) {
  for (const char* name :
       {"BOOL", "U8",  "I8",  "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
        "I16",  "U16", "F16", "BF16",    "I32",     "U32",     "F32",         "I64",
        "U64",  "F64", "C64", "F4",      "F6_E2M3", "F6_E3M2"}) {
    const int bits = bits_of(*dtype_from_string(name));
    const auto bytes = static_cast<size_t>(bits);  // of 8 elements
    const std::string header =
        fmt::format(R"({{"t":{{"dtype":"{}","shape":[8],"data_offsets":[0,{}]}}}})", name, bytes);
    EXPECT_EQ(to_string(parse(file_of(header, bytes)).tensors.at(0).dtype), name);
  }
}

TEST(Safetensors, Check1FileOfAtLeastEightBytes) {
  EXPECT_EQ(refusal(""), "0 bytes are too few for a safetensors file");
  EXPECT_EQ(refusal(std::string(7, '\0')), "7 bytes are too few for a safetensors file");
}

TEST(Safetensors, Check2HeaderOfAtMost100MB) {
  EXPECT_THAT(refusal(prefix(100'000'001) + "{}"), HasSubstr("a header of 100000001 bytes"));
  EXPECT_THAT(refusal(prefix(100'000'000) + "{}"), HasSubstr("cut off"));
  EXPECT_THAT(refusal(prefix(UINT64_MAX) + "{}"), HasSubstr("18446744073709551615"));
  EXPECT_THAT(refusal(prefix(UINT64_MAX - 7) + "{}"), HasSubstr("more than the 100000000 allowed"));
}

TEST(Safetensors, Check3HeaderWithinTheFile) {
  EXPECT_EQ(refusal(prefix(3) + "{}"),
            "cut off: a header of 3 bytes, but only 2 follow its length");
}

TEST(Safetensors, Check4Utf8) {
  EXPECT_EQ(refusal(file_of("{\"\xFF\":1}", 0)), "header: ill-formed UTF-8 (byte 2)");
  EXPECT_THAT(refusal(file_of("{\"__metadata__\":{\"a\":\"\xC3(\"}}", 0)), HasSubstr("UTF-8"));
  EXPECT_THAT(refusal(file_of("{\"t\":{\"x\":\"\xE2\x28\xA1\"}}", 0)), HasSubstr("UTF-8"));
}

TEST(Safetensors, Check5Json) {
  EXPECT_THAT(refusal(file_of("{", 0)), HasSubstr("header: the JSON text is cut off (byte 1)"));
  EXPECT_THAT(refusal(file_of("{} x", 0)), HasSubstr("after the end"));
  EXPECT_THAT(refusal(file_of(std::string("{}\0", 3), 0)), HasSubstr("after the end"));
  EXPECT_THAT(refusal(file_of("{\"a\":}", 0)), HasSubstr("syntax error"));
}

TEST(Safetensors, Check5SchemaOfTheTop) {
  EXPECT_EQ(refusal(file_of(R"({"t":1})", 0)), "header: t is a number, wanted an object (byte 6)");
  EXPECT_THAT(refusal(file_of(R"({"t":[1]})", 0)), HasSubstr("t is an array, wanted an object"));
  EXPECT_THAT(refusal(file_of(R"({"t":null})", 0)), HasSubstr("t is null, wanted an object"));
  EXPECT_THAT(refusal(file_of(R"({"__metadata__":"x"})", 0)),
              HasSubstr("__metadata__ is a string, wanted an object"));
}

TEST(Safetensors, Check5SchemaOfMetadata) {
  for (const auto& [value, kind] :
       std::vector<std::pair<std::string, std::string>>{{"1", "a number"},
                                                        {"1.5", "a number"},
                                                        {"true", "a boolean"},
                                                        {"null", "null"},
                                                        {"{}", "an object"},
                                                        {"[]", "an array"},
                                                        {"18446744073709551615", "a number"}}) {
    EXPECT_THAT(refusal(file_of(R"({"__metadata__":{"k":)" + value + "}}", 0)),
                HasSubstr("__metadata__: k is " + kind + ", wanted a string"));
  }
}

TEST(Safetensors, Check5SchemaOfAnEntry) {
  EXPECT_THAT(member_refusal(R"("shape":[8],"data_offsets":[0,8])"),
              HasSubstr("tensor t: dtype is missing"));
  EXPECT_THAT(member_refusal(R"("dtype":"U8","data_offsets":[0,8])"),
              HasSubstr("tensor t: shape is missing"));
  EXPECT_THAT(member_refusal(R"("dtype":"U8","shape":[8])"),
              HasSubstr("tensor t: data_offsets is missing"));
  EXPECT_THAT(member_refusal(R"("dtype":"Q4_K","shape":[8],"data_offsets":[0,8])"),
              HasSubstr("tensor t: dtype Q4_K is not known"));
  EXPECT_THAT(member_refusal(R"("dtype":"u8","shape":[8],"data_offsets":[0,8])"),
              HasSubstr("tensor t: dtype u8 is not known"));
  EXPECT_THAT(member_refusal(R"("dtype":8)"), HasSubstr("dtype is a number, wanted a string"));
  EXPECT_THAT(member_refusal(R"("dtype":null)"), HasSubstr("dtype is null"));
  EXPECT_THAT(member_refusal(R"("dtype":["U8"])"), HasSubstr("dtype is an array"));
  EXPECT_THAT(member_refusal(R"("shape":8)"), HasSubstr("shape is a number, wanted an array"));
  EXPECT_THAT(member_refusal(R"("shape":{})"), HasSubstr("shape is an object"));
  EXPECT_THAT(member_refusal(R"("shape":["8"])"), HasSubstr("shape holds a string"));
  EXPECT_THAT(member_refusal(R"("shape":[[8]])"), HasSubstr("shape holds an array"));
  EXPECT_THAT(member_refusal(R"("data_offsets":[0])"),
              HasSubstr("an array of 1, wanted an array of two"));
  EXPECT_THAT(member_refusal(R"("data_offsets":[])"), HasSubstr("wanted an array of two integers"));
  EXPECT_THAT(member_refusal(R"("data_offsets":[0,8,8])"), HasSubstr("an array of 3"));
}

TEST(Safetensors, Check6ContiguousFromTheStart) {
  EXPECT_EQ(refusal(file_of("{" + entry("a", 1, 4) + "}", 4)),
            "tensor a: begins at byte 1 of the data, wanted 0 (a hole after the tensor before it)");
  EXPECT_THAT(refusal(file_of("{" + entry("a", 0, 2) + "," + entry("b", 3, 4) + "}", 4)),
              HasSubstr("tensor b: begins at byte 3 of the data, wanted 2 (a hole"));
  EXPECT_THAT(refusal(file_of("{" + entry("a", 0, 3) + "," + entry("b", 2, 4) + "}", 4)),
              HasSubstr("tensor b: begins at byte 2 of the data, wanted 3 (overlaps"));
  EXPECT_THAT(refusal(file_of("{" + entry("a", 0, 4) + "," + entry("b", 0, 4) + "}", 4)),
              HasSubstr("overlaps"));
  EXPECT_THAT(refusal(file_of("{" + entry("a", 0, 4) + "," + entry("b", 2, 2) + "}", 4)),
              HasSubstr("overlaps"));
  EXPECT_THAT(member_refusal(R"("dtype":"U8","shape":[4],"data_offsets":[8,4])"),
              HasSubstr("tensor t: data_offsets [8, 4] run backwards"));
}

TEST(Safetensors, Check7SizeIsThatOfShapeAndDtype) {
  EXPECT_EQ(member_refusal(R"("dtype":"F32","shape":[1,3],"data_offsets":[0,8])"),
            "tensor t: data_offsets [0, 8] hold 8 bytes, but F32 [1, 3] takes 12");
  EXPECT_THAT(member_refusal(R"("dtype":"U8","shape":[0],"data_offsets":[0,8])"),
              HasSubstr("takes 0"));
  EXPECT_THAT(member_refusal(R"("dtype":"F64","shape":[],"data_offsets":[0,4])"),
              HasSubstr("F64 [] takes 8"));
}

TEST(Safetensors, Check7OverflowIsAnErrorNotAWrap) {
  // 2^32 x 2^32 wraps to 0, and 2^61 x 8 bits to 0 in 64 bits.
  EXPECT_THAT(
      member_refusal(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])"),
      HasSubstr("tensor t: shape [4294967296, 4294967296] overflows 64 bits"));
  EXPECT_THAT(member_refusal(R"("dtype":"U8","shape":[2305843009213693952],"data_offsets":[0,0])"),
              HasSubstr("overflows"));
  EXPECT_THAT(
      member_refusal(R"("dtype":"F64","shape":[9223372036854775807,2,0],"data_offsets":[0,0])"),
      HasSubstr("overflows"));
}

TEST(Safetensors, Check8SubByteTensorsFillWholeBytes) {
  EXPECT_THAT(member_refusal(R"("dtype":"F4","shape":[3,5],"data_offsets":[0,8])"),
              HasSubstr("tensor t: F4 [3, 5] does not fill whole bytes"));
  EXPECT_THAT(member_refusal(R"("dtype":"F6_E2M3","shape":[2],"data_offsets":[0,2])"),
              HasSubstr("whole bytes"));
  EXPECT_NO_THROW(
      parse(file_of(R"({"t":{"dtype":"F6_E3M2","shape":[4],"data_offsets":[0,3]}})", 3)));
}

TEST(Safetensors, Check9NoTrailingAndNoMissingBytes) {
  EXPECT_EQ(refusal(file_of("{" + entry("a", 0, 4) + "}", 5)), "1 bytes follow the last tensor");
  EXPECT_EQ(refusal(file_of("{}", 1)), "1 bytes follow the last tensor");
  EXPECT_EQ(refusal(file_of("{" + entry("a", 0, 4) + "}", 3)),
            "cut off: the header describes 4 bytes of data, found 3");
}

TEST(Safetensors, Check10FirstByteIsABrace) {
  EXPECT_EQ(refusal(file_of(" {}", 0)), "the header does not begin with '{'");
  EXPECT_EQ(refusal(file_of("[]", 0)), "the header does not begin with '{'");
  EXPECT_EQ(refusal(prefix(0)), "the header does not begin with '{'");
}

TEST(Safetensors, Check11NoDuplicateNames) {
  EXPECT_EQ(
      refusal(file_of(
          "{" + entry("a", 0, 4) + "," + entry("b", 4, 8) + "," + entry("a", 8, 12) + "}", 12)),
      "tensor a appears twice");
  EXPECT_EQ(refusal(file_of("{" + entry("a", 0, 0) + "," + entry("\\u0061", 0, 0) + "}", 0)),
            "tensor a appears twice");
  EXPECT_THAT(refusal(file_of(R"({"__metadata__":{},"__metadata__":{}})", 0)),
              HasSubstr("__metadata__ appears twice"));
  EXPECT_THAT(refusal(file_of(R"({"__metadata__":{"a":"1","a":"1"}})", 0)),
              HasSubstr("__metadata__: a appears twice"));
  EXPECT_THAT(member_refusal(R"("dtype":"U8","dtype":"U8")"), HasSubstr("dtype appears twice"));
  EXPECT_THAT(member_refusal(R"("shape":[8],"shape":[8])"), HasSubstr("shape appears twice"));
  EXPECT_THAT(member_refusal(R"("data_offsets":[0,8],"data_offsets":[0,8])"),
              HasSubstr("data_offsets appears twice"));
}

TEST(Safetensors, St1RankAndNameLengthAreBounded) {
  EXPECT_NO_THROW(
      parse(file_of(R"({"t":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1)));
  EXPECT_THAT(member_refusal(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])"),
              HasSubstr("tensor t: shape holds more than 8 numbers"));
  EXPECT_NO_THROW(parse(file_of("{" + entry(std::string(4096, 'n'), 0, 1) + "}", 1)));
  EXPECT_THAT(refusal(file_of("{" + entry(std::string(4097, 'n'), 0, 1) + "}", 1)),
              HasSubstr("a name of 4097 bytes, more than 4096"));
  EXPECT_THAT(refusal(file_of("{" + entry("\\n" + std::string(5000, 'n'), 0, 1) + "}", 1)),
              HasSubstr("a name of 5001 bytes"));
}

TEST(Safetensors, St2NumbersAreUnsignedIntegersBelow2To63) {
  for (const char* number :
       {"-1", "-0", "1.0", "1.5", "1e1", "1E0", "9223372036854775808", "18446744073709551615",
        "18446744073709551616", "1e999", "-9223372036854775809"}) {
    EXPECT_THAT(member_refusal(fmt::format(R"("dtype":"U8","shape":[{}])", number)),
                testing::ContainsRegex("tensor t: shape holds .*, wanted an integer of 0 to"))
        << number;
    EXPECT_THAT(member_refusal(fmt::format(R"("data_offsets":[0,{}])", number)),
                HasSubstr("tensor t: data_offsets holds "))
        << number;
  }
  EXPECT_THAT(
      member_refusal(
          R"("dtype":"U8","shape":[8],"data_offsets":[9223372036854775799,9223372036854775807])"),
      HasSubstr("wanted 0 (a hole"));
}

TEST(Safetensors, St2DepthIsLimited) {
  const std::string deep = std::string(100'000, '[');
  EXPECT_THAT(member_refusal("\"x\":" + deep), HasSubstr("nested more than 64 deep"));
}

TEST(Safetensors, NamesHaveNoControlCharacters) {
  EXPECT_THAT(refusal(file_of("{" + entry("a\\u001b[2J\\n", 0, 1) + "}", 1)),
              HasSubstr("the name a\\x1b[2J\\x0a has control characters"));
  for (const char* name : {"a\\u0000b", "a\\nb", "a\x7f"}) {
    EXPECT_THAT(refusal(file_of("{" + entry(name, 0, 1) + "}", 1)),
                HasSubstr("has control characters"))
        << name;
  }
  EXPECT_NO_THROW(parse(file_of("{" + entry("a b\xC3\xA9", 0, 1) + "}", 1)));
}

TEST(Safetensors, EveryCutOfAFileIsRefused) {
  const std::string file =
      file_of(R"({"__metadata__":{"a":"b"},)" + entry("x", 0, 4) + "," + entry("y", 4, 6) + "}", 6);
  EXPECT_NO_THROW(parse(file));
  for (size_t length = 0; length < file.size(); ++length)
    EXPECT_NE(refusal(file.substr(0, length)), "") << length;
}

TEST(Safetensors, FortySixThousandTensorsAreFoundAgain) {
  // As many as the per-expert checkpoint has, in an order that is neither that of names nor of
  // bytes; anything quadratic would take minutes here.
  constexpr size_t kCount = 46'677;
  std::string header = "{";
  for (size_t i = 0; i < kCount; ++i) {
    const size_t slot = i * 7919 % kCount;
    header += fmt::format(
        "{}\"layers.{}.experts.{}.w\":{{\"dtype\":\"F32\",\"shape\":[],"
        "\"data_offsets\":[{},{}]}}",
        i == 0 ? "" : ",", slot % 30, slot / 30, 4 * slot, 4 * slot + 4);
  }
  const test::TempDir dir;
  dir.write("m.safetensors", file_of(header + "}", 4 * kCount));
  const SafetensorsFile file(dir.path("m.safetensors"));
  ASSERT_EQ(file.tensors().size(), kCount);
  const std::byte* base = file.tensors()[0].bytes.data();
  for (size_t slot = 0; slot < kCount; ++slot) {
    const StoredTensor* tensor =
        file.find(fmt::format("layers.{}.experts.{}.w", slot % 30, slot / 30));
    ASSERT_NE(tensor, nullptr);
    ASSERT_EQ(tensor->bytes.data(), base + 4 * slot);
  }
}

TEST(SafetensorsFile, SurvivesAMoveAndFindsByName) {
  const test::TempDir dir;
  const std::string content = file_of("{" + entry("b", 0, 3) + "," + entry("a", 3, 4) + "}", 4);
  dir.write("x.safetensors", content);
  SafetensorsFile first(dir.path("x.safetensors"));
  std::vector<SafetensorsFile> files;
  files.push_back(std::move(first));
  files.emplace_back(dir.path("x.safetensors"));
  const StoredTensor* tensor = files[0].find("a");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(std::to_integer<int>(tensor->bytes[0]), 3);
  EXPECT_EQ(tensor->file, "x.safetensors");
  EXPECT_EQ(tensor->view().shape(), Shape{1});
  EXPECT_EQ(files[0].file_bytes(), static_cast<int64_t>(content.size()));
  EXPECT_EQ(files[0].find(""), nullptr);
  EXPECT_EQ(files[0].find("aa"), nullptr);
  EXPECT_EQ(files[0].find("c"), nullptr);
}

TEST(SafetensorsFile, ErrorsBeginWithTheFilesName) {
  const test::TempDir dir;
  dir.write("x.safetensors", "short");
  try {
    SafetensorsFile file(dir.path("x.safetensors"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "x.safetensors: 5 bytes are too few for a safetensors file");
  }
  try {
    SafetensorsFile file(dir.path("none.safetensors"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_EQ(error.place(), "none.safetensors");
  }
}

}  // namespace
}  // namespace facet
