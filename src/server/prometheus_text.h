#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "base/histogram.h"

namespace facet {

/// Writes Prometheus' text format 0.0.4. Each family is announced once, then come its samples.
class PrometheusText {
 public:
  /// Every sample gets the label model_name.
  explicit PrometheusText(std::string_view model_name);

  enum class Type { kCounter, kGauge, kHistogram };
  void family(std::string_view name, Type type, std::string_view help);

  struct Label {
    std::string_view name;
    std::string_view value;
  };
  // Samples of the family announced last.
  using Labels = std::initializer_list<Label>;
  void sample(double value, Labels labels = {});
  void sample(int64_t value, Labels labels = {});
  void histogram(const Histogram::Snapshot& values);

  std::string release() { return std::move(out_); }

 private:
  void begin_sample(std::string_view suffix, Labels labels);

  const std::string labels_;  // model_name="…"
  std::string name_;
  std::string out_;
};

}  // namespace facet
