#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace facet {

/// Element types as safetensors names them. Only some can be computed with; all can be recognised.
enum class DType : uint8_t {
  kBool,
  kU8,
  kI8,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
  kC64,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kF4,
  kF6E2M3,
  kF6E3M2,
};

/// The safetensors name ("BF16", "F8_E4M3", …).
std::string_view to_string(DType dtype);
/// The inverse; nullopt for a name that safetensors does not know.
std::optional<DType> dtype_from_string(std::string_view name);
/// Bits per element: 4, 6, 8, 16, 32 or 64.
int32_t bits_of(DType dtype);

}  // namespace facet
