#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>

#include "cpu/loops/simd_clones.h"

namespace repq_fx {

REPQ_FX_SIMD_CLONES
static void to_float(const c10::BFloat16* values, int64_t size, float* result) {
  for (int64_t i = 0; i < size; ++i) result[i] = values[i];
}

REPQ_FX_SIMD_CLONES
static void to_float(const c10::Half* values, int64_t size, float* result) {
  for (int64_t i = 0; i < size; ++i) result[i] = values[i];
}

// Rounded to nearest, ties to even.
REPQ_FX_SIMD_CLONES
static void from_float(const float* values, int64_t size, c10::BFloat16* result) {
  for (int64_t i = 0; i < size; ++i) result[i] = values[i];
}

REPQ_FX_SIMD_CLONES
static void from_float(const float* values, int64_t size, c10::Half* result) {
  for (int64_t i = 0; i < size; ++i) result[i] = values[i];
}

// Values of any of the three types through a small buffer of float32, which float32 does without.
inline const float* read_floats(const float* values, int64_t, float*) { return values; }
template <typename T>
const float* read_floats(const T* values, int64_t size, float* buffer) {
  to_float(values, size, buffer);
  return buffer;
}
inline float* write_target(float* result, float*) { return result; }
template <typename T>
float* write_target(T*, float* buffer) {
  return buffer;
}
inline void write_floats(const float*, int64_t, float*) {}
template <typename T>
void write_floats(const float* buffer, int64_t size, T* result) {
  from_float(buffer, size, result);
}

}  // namespace repq_fx
