#pragma once

#include <string>
#include <vector>

#include "verify/report.h"

namespace facet::cli {

/// What `verify` has to say of one run.
struct VerifyAnswer {
  const VerifyReport& report;
  const std::vector<Fault>& faults;
  const Tolerance& tolerance;
  std::string fast;     ///< the backend, as it describes itself
  std::string planted;  ///< the planted fault, or empty
};

/// A table, a line per layer, and the verdict, on stdout.
void print_verify_table(const VerifyAnswer& answer);
/// One JSON object on stdout. What is not a finite number is null.
void print_verify_json(const VerifyAnswer& answer);

}  // namespace facet::cli
