#include "server/prometheus_text.h"

#include <cmath>
#include <fmt/core.h>
#include <iterator>

namespace facet {
namespace {

void append_escaped(std::string& out, std::string_view value) {
  for (const char c : value) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') out += '\\';
    out += c;
  }
}

std::string label_text(std::string_view name, std::string_view value) {
  std::string text = fmt::format("{}=\"", name);
  append_escaped(text, value);
  return text + '"';
}

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

std::string_view type_name(PrometheusText::Type type) {
  switch (type) {
    case PrometheusText::Type::kCounter:
      return "counter";
    case PrometheusText::Type::kGauge:
      return "gauge";
    case PrometheusText::Type::kHistogram:
      break;
  }
  return "histogram";
}

}  // namespace

PrometheusText::PrometheusText(std::string_view model_name)
    : labels_(label_text("model_name", model_name)) {}

void PrometheusText::family(std::string_view name, Type type, std::string_view help) {
  name_ = name;
  fmt::format_to(std::back_inserter(out_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name,
                 type_name(type));
}

void PrometheusText::begin_sample(std::string_view suffix, Labels labels) {
  fmt::format_to(std::back_inserter(out_), "{}{}{{{}", name_, suffix, labels_);
  for (const Label& label : labels) {
    out_ += ',';
    out_ += label_text(label.name, label.value);
  }
  out_ += "} ";
}

void PrometheusText::sample(double value, Labels labels) {
  begin_sample({}, labels);
  out_ += number_text(value);
  out_ += '\n';
}

void PrometheusText::sample(int64_t value, Labels labels) {
  begin_sample({}, labels);
  fmt::format_to(std::back_inserter(out_), "{}\n", value);
}

void PrometheusText::histogram(const Histogram::Snapshot& values) {
  int64_t below = 0;
  for (size_t i = 0; i < values.counts.size(); ++i) {
    below += values.counts[i];
    const std::string border = i < values.borders.size() ? number_text(values.borders[i]) : "+Inf";
    begin_sample("_bucket", {{"le", border}});
    fmt::format_to(std::back_inserter(out_), "{}\n", below);
  }
  begin_sample("_sum", {});
  out_ += number_text(values.sum) + '\n';
  begin_sample("_count", {});
  fmt::format_to(std::back_inserter(out_), "{}\n", below);
}

}  // namespace facet
