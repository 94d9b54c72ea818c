#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include "tensor/buffer.h"

namespace facet {
namespace {

TEST(DType, NamesRoundTrip) {
  EXPECT_EQ(dtype_from_string("BF16"), DType::kBF16);
  EXPECT_EQ(to_string(DType::kF8E4M3), "F8_E4M3");
  EXPECT_EQ(bits_of(DType::kF6E2M3), 6);
  EXPECT_FALSE(dtype_from_string("bf16").has_value());
}

TEST(Shape, ScalarHasOneElement) {
  EXPECT_EQ(Shape().elements(), 1);
  EXPECT_EQ(to_string(Shape()), "[]");
  EXPECT_EQ(to_string(Shape{704, 1408}), "[704, 1408]");
  EXPECT_EQ((Shape{3, 0, 2}).elements(), 0);
}

TEST(Arena, ViewsAreAlignedAndDisjoint) {
  const Shape shape{3, 5};
  Arena arena(Buffer(2 * Arena::bytes_for(DType::kF32, shape)));
  const TensorView a = arena.take(DType::kF32, shape);
  const TensorView b = arena.take(DType::kF32, shape);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data()) % Buffer::kAlignment, 0u);
  EXPECT_GE(static_cast<std::byte*>(b.data()) - static_cast<std::byte*>(a.data()), a.bytes());
  const TensorView row = a.slice_rows(1, 2);
  EXPECT_EQ(row.as<float>().data(), a.as<float>().data() + 5);
  EXPECT_EQ(row.shape(), (Shape{2, 5}));
}

}  // namespace
}  // namespace facet
