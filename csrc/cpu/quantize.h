#pragma once

#include <cstdint>

#include "common/quantize.h"

namespace repq_fx {

// Writes the uint8 or int8 codes of `size` values, on the calling thread. Also the requantization
// step of lowered layers, from their float32 accumulator.
void quantize_values(const float* values, uint8_t* codes, int64_t size, QuantizeGrid grid);

}  // namespace repq_fx
