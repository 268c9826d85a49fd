#include "cpu/float_values.h"

#include "cpu/simd_clones.h"

namespace repq_fx {

REPQ_FX_SIMD_CLONES
void to_float(const c10::BFloat16* values, int64_t size, float* result) {
  for (int64_t i = 0; i < size; ++i) result[i] = values[i];
}

REPQ_FX_SIMD_CLONES
void to_float(const c10::Half* values, int64_t size, float* result) {
  for (int64_t i = 0; i < size; ++i) result[i] = values[i];
}

REPQ_FX_SIMD_CLONES
void from_float(const float* values, int64_t size, c10::BFloat16* result) {
  for (int64_t i = 0; i < size; ++i) result[i] = values[i];
}

REPQ_FX_SIMD_CLONES
void from_float(const float* values, int64_t size, c10::Half* result) {
  for (int64_t i = 0; i < size; ++i) result[i] = values[i];
}

}  // namespace repq_fx
