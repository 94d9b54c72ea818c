#include "cli/verify_output.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cmath>
#include <fmt/core.h>

namespace facet::cli {
namespace {

namespace json = boost::json;

void print_part(std::string_view name, const Difference& found) {
  fmt::print("{:<10}  {:>11.1e}  {:>9.1e}\n", name, found.relative, found.largest);
}

void print_layer(size_t index, const LayerReport& layer) {
  std::string experts = "-";
  if (layer.routing) {
    const RoutingDifference& routing = *layer.routing;
    experts = fmt::format("{}/{}", routing.equal, routing.rows);
    if (routing.ties > 0) experts += fmt::format(" and {} tied", routing.ties);
  }
  fmt::print("{:<10}  {:>11.1e}  {:>9.1e}  {:>9.1e}  {:>12.1e}  {}\n",
             fmt::format("layer {}", index),
             std::max(layer.attention.relative, layer.feed_forward.relative),
             std::max(layer.attention.largest, layer.feed_forward.largest),
             layer.attention.of_change, layer.feed_forward.of_change, experts);
}

json::value number(double value) {
  return std::isfinite(value) ? json::value(value) : json::value(nullptr);
}

json::object to_json(const Difference& found) {
  return {{"relative_l2", number(found.relative)},
          {"relative_l2_of_change", number(found.of_change)},
          {"largest", number(found.largest)},
          {"position", found.position}};
}

json::object to_json(const RoutingDifference& found) {
  return {{"rows", found.rows},
          {"equal", found.equal},
          {"ties", found.ties},
          {"largest_gap", number(found.gap)},
          {"weight", number(found.weight)},
          {"position", found.position}};
}

json::object to_json(const LayerReport& layer) {
  json::object result = {{"attention", to_json(layer.attention)},
                         {"feed_forward", to_json(layer.feed_forward)}};
  if (layer.routing) result["experts"] = to_json(*layer.routing);
  return result;
}

}  // namespace

void print_verify_table(const VerifyAnswer& answer) {
  const VerifyReport& report = answer.report;
  if (!answer.planted.empty()) fmt::print("planted: {}\n", answer.planted);
  fmt::print("{:<10}  {:>11}  {:>9}  {:>9}  {:>12}  {}\n", "part", "relative L2", "largest",
             "attention", "feed-forward", "experts");
  print_part("embedding", report.embedding);
  if (report.per_layer_inputs) print_part("per-layer", *report.per_layer_inputs);
  for (size_t i = 0; i < report.layers.size(); ++i) print_layer(i, report.layers[i]);
  print_part("final norm", report.final_norm);
  print_part("logits", report.logits);
  const FreeReport& free = report.free;
  fmt::print(
      "left to itself (not judged): final hidden {:.1e}, logits {:.1e}, largest {:.1e}, best token "
      "the same in {} of {} rows\n",
      free.hidden.relative, free.logits.relative, free.logits.largest, free.same_best, free.rows);
  for (const Fault& fault : answer.faults) fmt::print("fault: {}: {}\n", fault.where, fault.what);
  fmt::print("verdict: {} {} ref ({} tolerances)\n", answer.fast,
             answer.faults.empty() ? "agrees with" : "differs from", answer.tolerance.name);
}

void print_verify_json(const VerifyAnswer& answer) {
  const VerifyReport& report = answer.report;
  json::array layers;
  for (const LayerReport& layer : report.layers) layers.push_back(to_json(layer));
  json::array faults;
  for (const Fault& fault : answer.faults) {
    faults.push_back(json::object{{"where", fault.where}, {"what", fault.what}});
  }
  json::object all = {{"verdict", answer.faults.empty() ? "agrees" : "differs"},
                      {"backend", answer.fast},
                      {"tolerance",
                       {{"name", answer.tolerance.name},
                        {"relative_l2", answer.tolerance.relative},
                        {"relative_l2_of_change", answer.tolerance.of_change},
                        {"routing", answer.tolerance.routing}}},
                      {"embedding", to_json(report.embedding)},
                      {"layers", std::move(layers)},
                      {"final_norm", to_json(report.final_norm)},
                      {"logits", to_json(report.logits)},
                      {"free",
                       {{"hidden", to_json(report.free.hidden)},
                        {"logits", to_json(report.free.logits)},
                        {"rows", report.free.rows},
                        {"same_best", report.free.same_best}}},
                      {"faults", std::move(faults)}};
  if (report.per_layer_inputs) all["per_layer_inputs"] = to_json(*report.per_layer_inputs);
  if (!answer.planted.empty()) all["planted"] = answer.planted;
  fmt::print("{}\n", json::serialize(all));
}

}  // namespace facet::cli
