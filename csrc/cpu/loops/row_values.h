// Hands the values of the rows of a tensor to their counters, wherever they lie in memory.
#pragma once

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "common/update_histogram.h"
#include "cpu/loops/row_counter.h"
#include "cpu/loops/simd_clones.h"

namespace repq_fx {

constexpr int64_t tile_rows = 16;     // Neighbouring values of as many rows fill a cache line.
constexpr int64_t tile_values = 256;  // Of each row: a tile fits L1.
constexpr int64_t prefetch_distance = 64;

template <typename T>
[[gnu::always_inline]] inline void convert(const T* values, int size, bool relu, float* output) {
  for (int i = 0; i < size; ++i) {
    const auto x = static_cast<float>(values[i]);
    output[i] = relu && x < 0 ? 0 : x;  // A NaN stays.
  }
}

// Not one template: compilers clone plain functions only.
REPQ_FX_SIMD_CLONES
static void to_float(const float* values, int size, bool relu, float* output) {
  convert(values, size, relu, output);
}

REPQ_FX_SIMD_CLONES
static void to_float(const c10::BFloat16* values, int size, bool relu, float* output) {
  convert(values, size, relu, output);
}

REPQ_FX_SIMD_CLONES
static void to_float(const c10::Half* values, int size, bool relu, float* output) {
  convert(values, size, relu, output);
}

// Counts values that lie together.
template <typename T>
void count_run(const T* values, int64_t size, bool relu, RowCounter& counter) {
  float block[block_size];
  for (int64_t i = 0; i < size; i += block_size) {
    const int length = static_cast<int>(std::min<int64_t>(block_size, size - i));
    const float* converted = block;
    if constexpr (std::is_same_v<T, float>) {
      if (!relu) converted = values + i;
    }
    if (converted == block) to_float(values + i, length, relu, block);
    counter.add(converted, length);
  }
}

// Counts the values `begin` to `end` of one row.
template <typename T>
void count_row(const T* values, const RowLayout& layout, int64_t row, int64_t begin, int64_t end,
               bool relu, RowCounter& counter) {
  for (int64_t i = begin, next; i < end; i = next) {
    const int64_t inside = i % layout.run;
    next = std::min(end, i - inside + layout.run);
    const int64_t run = i / layout.run * layout.rows + row;
    count_run(values + run * layout.run + inside, next - i, relu, counter);
  }
}

// Copies `size` values of each of `rows` neighbouring rows, which take turns in memory, apart.
template <typename T>
[[gnu::always_inline]] inline void split_rows(const T* values, int64_t stride, int64_t size,
                                              int64_t rows, T (*tile)[tile_values]) {
  for (int64_t i = 0; i < size; ++i, values += stride) {
    __builtin_prefetch(values + prefetch_distance * stride);
    for (int64_t row = 0; row < rows; ++row) tile[row][i] = values[row];
  }
}

// Counts the values `begin` to `end` of at most `tile_rows` rows that take turns in memory, from
// row `first` on.
template <typename T>
void count_tile(const T* values, const RowLayout& layout, int64_t first, int64_t begin, int64_t end,
                bool relu, std::vector<RowCounter>& counters) {
  const auto rows = static_cast<int64_t>(counters.size());
  T tile[tile_rows][tile_values];
  for (int64_t i = begin; i < end; i += tile_values) {
    const int64_t size = std::min(tile_values, end - i);
    const T* source = values + i * layout.rows + first;
    if (rows == tile_rows) {
      split_rows(source, layout.rows, size, tile_rows, tile);  // Unrolled: the number is known.
    } else {
      split_rows(source, layout.rows, size, rows, tile);
    }
    for (int64_t row = 0; row < rows; ++row) count_run(tile[row], size, relu, counters[row]);
  }
}

// Whether single values of the rows take turns, as those of channels do in channels_last.
inline bool alternates(const RowLayout& layout) { return layout.run == 1 && layout.rows > 1; }

// Counts the values `begin` to `end` of each row from `first` on that has a counter.
template <typename T>
void count_rows(const void* data, const RowLayout& layout, int64_t first, int64_t begin,
                int64_t end, bool relu, std::vector<RowCounter>& counters) {
  const T* values = static_cast<const T*>(data);
  if (alternates(layout)) return count_tile(values, layout, first, begin, end, relu, counters);
  for (size_t i = 0; i < counters.size(); ++i) {
    count_row(values, layout, first + static_cast<int64_t>(i), begin, end, relu, counters[i]);
  }
}

using CountRows = void (*)(const void*, const RowLayout&, int64_t, int64_t, int64_t, bool,
                           std::vector<RowCounter>&);

inline CountRows count_rows_of(c10::ScalarType type) {
  if (type == c10::ScalarType::Float) return count_rows<float>;
  return type == c10::ScalarType::Half ? count_rows<c10::Half> : count_rows<c10::BFloat16>;
}

}  // namespace repq_fx
