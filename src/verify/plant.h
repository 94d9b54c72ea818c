#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "model/gemma4/config.h"
#include "model/gemma4/weights.h"

namespace facet {

/// Faults that engines have had, put on purpose into what the fast backend gets: verify must find
/// each, and name the layer. All but the last hit one layer, the middle one of those that can have
/// the fault.
enum class Plant : uint8_t {
  kSwapGateUp,       ///< gate_proj and up_proj exchanged, in the dense MLP and in every expert
  kDropLayerScalar,  ///< layer_scalar taken as 1
  kWindowOffByOne,   ///< a sliding layer sees one key too many
  kGateScaleForUp,   ///< NVFP4 up projections of experts decoded with the gate's global scale
  kNeighbourExpert,  ///< expert e computes with the matrices of expert e + 1
  kErfGelu,          ///< GELU's erf form for its tanh form, in every layer
};

/// "swap-gate-up", …; nullopt for any other name.
std::optional<Plant> find_plant(std::string_view name);
std::vector<std::string> plant_names();

/// What the fast side is made of.
struct PlantTarget {
  gemma4::Gemma4Config& config;
  gemma4::Weights& weights;
  const Activation& activation;
  int32_t last_position = 0;  ///< of any row that will be run
};

/// Changes the target and says how: "layer 2: …". Throws Error{kBadInput} that says why if the
/// plant would change nothing. For kErfGelu nothing is changed here; the backend wants wrapping.
std::string plant_fault(Plant plant, const PlantTarget& target);

/// Computes as `inner` does, with GELU's erf form, z Φ(z), in place of the tanh form. `inner` must
/// outlive it and compute on the host.
std::unique_ptr<Backend> make_erf_gelu_backend(Backend& inner);

}  // namespace facet
