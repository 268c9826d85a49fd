#pragma once

#include <cstdint>

#include "common/rounding.h"

namespace repq_fx {

// Values that a thread takes at once: the words of one Philox counter, 16 bytes of float32.
constexpr int vector_size = words_per_counter;

template <typename T, int size = vector_size>
struct alignas(size * sizeof(T)) Vector {
  T values[size];
};

template <typename T>
bool is_vector_aligned(const T* values) {
  return reinterpret_cast<uintptr_t>(values) % alignof(Vector<T>) == 0;
}

// The first `count` values from `values` on, at once if they are a whole aligned vector.
template <typename T>
__device__ Vector<T> load(const T* values, int64_t count, bool aligned) {
  if (aligned && count >= vector_size) return *reinterpret_cast<const Vector<T>*>(values);
  Vector<T> result;
  for (int j = 0; j < vector_size; ++j) result.values[j] = j < count ? values[j] : T(0.0f);
  return result;
}

template <typename T>
__device__ void store(const Vector<T>& values, int64_t count, bool aligned, T* result) {
  if (aligned && count >= vector_size) {
    *reinterpret_cast<Vector<T>*>(result) = values;
  } else {
    for (int j = 0; j < vector_size && j < count; ++j) result[j] = values.values[j];
  }
}

}  // namespace repq_fx
