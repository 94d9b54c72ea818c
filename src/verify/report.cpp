#include "verify/report.h"

#include <fmt/core.h>

namespace facet {
namespace {

class Judge {
 public:
  explicit Judge(const Tolerance& tolerance) : tolerance_(tolerance) {}

  void difference(const std::string& where, const Difference& found) {
    // Written so that nothing but a number within bounds passes.
    if (found.relative <= tolerance_.relative && found.of_change <= tolerance_.of_change) return;
    std::string what = fmt::format("relative L2 {:.2g}, wanted at most {:.2g}", found.relative,
                                   tolerance_.relative);
    if (found.of_change > 0) {
      what += fmt::format(" ({:.2g} of what it adds, wanted at most {:.2g})", found.of_change,
                          tolerance_.of_change);
    }
    faults_.push_back({where, fmt::format("{}; position {}", what, found.position)});
  }

  void routing(const std::string& where, const RoutingDifference& found) {
    if (const int64_t wrong = found.rows - found.equal - found.ties; wrong > 0) {
      faults_.push_back(
          {where, fmt::format("other experts in {} of {} rows, less probable by {:.2g} (a tie: at "
                              "most {:.2g}); position {}",
                              wrong, found.rows, found.gap, tolerance_.routing, found.position)});
    } else if (!(found.weight <= tolerance_.routing)) {
      faults_.push_back(
          {where, fmt::format("expert weights differ by {:.2g}, wanted at most {:.2g}",
                              found.weight, tolerance_.routing)});
    }
  }

  std::vector<Fault> faults() && { return std::move(faults_); }

 private:
  const Tolerance& tolerance_;
  std::vector<Fault> faults_;
};

}  // namespace

std::vector<Fault> find_faults(const VerifyReport& report, const Tolerance& tolerance) {
  Judge judge(tolerance);
  judge.difference("embedding", report.embedding);
  if (report.per_layer_inputs) judge.difference("per-layer inputs", *report.per_layer_inputs);
  for (size_t i = 0; i < report.layers.size(); ++i) {
    const LayerReport& layer = report.layers[i];
    judge.difference(fmt::format("layer {} attention", i), layer.attention);
    if (layer.routing) judge.routing(fmt::format("layer {} router", i), *layer.routing);
    judge.difference(fmt::format("layer {} feed-forward", i), layer.feed_forward);
  }
  judge.difference("final norm", report.final_norm);
  judge.difference("logits", report.logits);
  return std::move(judge).faults();
}

}  // namespace facet
