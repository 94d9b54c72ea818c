#pragma once

#include <cstdint>
#include <span>

namespace facet {

/// Every `step`-th code point from `first` to `last` maps to itself plus `delta`.
struct CaseRange {
  uint32_t first;
  uint32_t last;
  uint32_t step;
  int32_t delta;
};

/// A code point that maps to several, as UTF-8.
struct SpecialCase {
  uint32_t code;
  const char* text;
};

struct CodeRange {
  uint32_t first;
  uint32_t last;
};

/// Tables of tools/make_case_tables.py, each ascending by code point. A case-ignorable code point
/// is not among the cased ones.
std::span<const CaseRange> lower_ranges();
std::span<const SpecialCase> lower_specials();
std::span<const CaseRange> upper_ranges();
std::span<const SpecialCase> upper_specials();
std::span<const CodeRange> cased_ranges();
std::span<const CodeRange> case_ignorable_ranges();

}  // namespace facet
