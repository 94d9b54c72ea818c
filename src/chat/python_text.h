#pragma once

#include <string>

#include "chat/value.h"

namespace facet {

// The published prompt templates run under Jinja, so that their texts are shaped by Python.

/// An integer keeps its digits, however many; other numbers print as Python's repr(float): "1.0",
/// "1e-05", "1e+16", "-0.0".
std::string number_text(const Number& number);

/// str(value): a string as it is; None, True, ['a', None], {'k': 1.5}. Characters above U+007F are
/// printed as they are.
std::string python_text(const Value& value);

}  // namespace facet
