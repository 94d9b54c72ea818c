#pragma once

#include <vector>

#include "checkpoint/json.h"
#include "model/gemma4/config.h"

namespace facet::gemma4 {

/// The layers that layer_types, rope_parameters and the fields already in `config` (all but
/// `layers`) describe; `text` is the object that holds them. Throws Error{kBadCheckpoint} naming
/// the field.
std::vector<LayerConfig> read_layers(const JsonReader& text, const Gemma4Config& config);

}  // namespace facet::gemma4
