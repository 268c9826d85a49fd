// The bins of a block of values that lies in the L1 cache, and the counting of them.
#pragma once

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "cpu/loops/avx512.h"
#include "cpu/loops/simd_clones.h"

namespace repq_fx {

// With the slots of two blocks and the counters in use, a block has to fit L1.
constexpr int block_size = 512;
constexpr int vector_size = 16;
constexpr int slot_capacity = block_size + vector_size;

// Equal values in a row would each wait for the increment before: so each bin has two counters
// that take turns.
constexpr int counter_lanes = 2;

// A slot is the number of a bin, counted from the one above zero.
struct Slots {
  const int32_t* slots;
  int size;
};

struct Counters {
  uint32_t* zero;  // The counter of slot 0.
  int64_t stride;  // From one lane to the next.
};

// Bins of a width whose reciprocal is `inverse_width`, up to `span` on both sides of zero.
struct BlockScale {
  float inverse_width;
  float span;
};

struct BlockRange {
  float lowest;  // Without NaN.
  float highest;
  int zeros;
  int non_finite;
};

struct BlockBins {
  bool fit;   // Whether every value is finite and inside the span; if not, there are no slots.
  int slots;  // How many values have one; the others are zero.
  int zeros;
};

// The range of all blocks so far that fit, in parts: joining them for each block would take longer
// than finding them.
struct LaneRange {
  std::array<float, vector_size> lowest;
  std::array<float, vector_size> highest;
};

inline void count_slots(Slots waiting, Counters counters) {
  uint32_t* const even = counters.zero;
  uint32_t* const odd = even + counters.stride;
  int i = 0;
  for (; i + 2 <= waiting.size; i += 2) {
    ++even[waiting.slots[i]];
    ++odd[waiting.slots[i + 1]];
  }
  if (i < waiting.size) ++even[waiting.slots[i]];
}

// In `vector_size` partial results, which compilers keep in registers.
REPQ_FX_SIMD_CLONES
static BlockRange block_range(const float* values, int size) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  float lowest[vector_size], highest[vector_size];
  int zeros[vector_size] = {}, non_finite[vector_size] = {};
  std::fill_n(lowest, vector_size, infinity);
  std::fill_n(highest, vector_size, -infinity);
  const auto include = [&](float x, int j) __attribute__((always_inline)) {
    lowest[j] = x < lowest[j] ? x : lowest[j];  // In this form a NaN changes nothing.
    highest[j] = x > highest[j] ? x : highest[j];
    zeros[j] += x == 0;
    non_finite[j] += !(std::fabs(x) <= FLT_MAX);
  };
  int i = 0;
  for (; i + vector_size <= size; i += vector_size) {
    for (int j = 0; j < vector_size; ++j) include(values[i + j], j);
  }
  for (; i < size; ++i) include(values[i], 0);
  BlockRange range{infinity, -infinity, 0, 0};
  for (int j = 0; j < vector_size; ++j) {
    range.lowest = std::min(range.lowest, lowest[j]);
    range.highest = std::max(range.highest, highest[j]);
    range.zeros += zeros[j];
    range.non_finite += non_finite[j];
  }
  return range;
}

namespace portable {

REPQ_FX_SIMD_CLONES
static void find_slots(const float* values, int size, float inverse_width, int32_t* slots) {
  for (int i = 0; i < size; ++i) {
    const float product = values[i] * inverse_width;
    // A negative value must not underflow to zero, which lies in the bin above.
    const float negative = product < -FLT_MIN ? product : -FLT_MIN;
    const float scaled = values[i] < 0 ? negative : product;
    const auto towards_zero = static_cast<int32_t>(scaled);
    slots[i] = towards_zero - (scaled < static_cast<float>(towards_zero));
  }
}

inline BlockBins find_and_count(const float* values, int size, BlockScale scale, LaneRange& ranges,
                                int32_t* slots, Slots waiting, Counters counters) {
  count_slots(waiting, counters);
  const BlockRange range = block_range(values, size);
  const bool inside = -range.lowest < scale.span && range.highest < scale.span;
  if (range.non_finite > 0 || !inside) return {};
  find_slots(values, size, scale.inverse_width, slots);
  ranges.lowest[0] = std::min(ranges.lowest[0], range.lowest);
  ranges.highest[0] = std::max(ranges.highest[0], range.highest);
  return {true, size, range.zeros};
}

}  // namespace portable

#ifdef REPQ_FX_AVX512
namespace avx512 {

#define REPQ_FX_TARGET __attribute__((target("avx512f,popcnt")))

constexpr __mmask16 full_mask = 0xFFFF;

// With the full mask, which costs nothing, where GCC 12 warns of its own plain intrinsics
// (https://gcc.gnu.org/PR105593).
struct Finder {
  __m512 inverse_width;
  __m512 lowest;
  __m512 highest;
  __m512 finite = _mm512_setzero_ps();  // NaN after a value that is not finite.
  int32_t* end;                         // Of the slots found.

  REPQ_FX_TARGET REPQ_FX_INLINE Finder(float inverse_width, const LaneRange& range, int32_t* slots)
      : inverse_width(_mm512_set1_ps(inverse_width)),
        lowest(_mm512_loadu_ps(range.lowest.data())),
        highest(_mm512_loadu_ps(range.highest.data())),
        end(slots) {}

  // Half of the values after a ReLU are zero: those outside `valid` and zeros get no slot.
  REPQ_FX_TARGET REPQ_FX_INLINE void add(__m512 x, __mmask16 valid) {
    constexpr int downwards = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    const __m512 zero = _mm512_setzero_ps();
    lowest = _mm512_maskz_min_ps(full_mask, x, lowest);
    highest = _mm512_maskz_max_ps(full_mask, x, highest);
    finite = _mm512_fmadd_ps(x, zero, finite);
    const __mmask16 kept = _mm512_mask_cmp_ps_mask(valid, x, zero, _CMP_NEQ_UQ);
    // Downwards, a negative product never underflows to zero, which lies in the bin above.
    const __m512 scaled = _mm512_maskz_mul_round_ps(full_mask, x, inverse_width, downwards);
    const __m512i bins = _mm512_maskz_cvt_roundps_epi32(full_mask, scaled, downwards);
    _mm512_storeu_si512(end, _mm512_maskz_compress_epi32(kept, bins));
    end += __builtin_popcount(kept);
  }
};

// Counts `pace` of the waiting slots with each vector of values: finding and counting use different
// parts of the processor.
template <int pace>
REPQ_FX_TARGET BlockBins find_and_count(const float* values, int size, BlockScale scale,
                                        LaneRange& ranges, int32_t* slots, Slots waiting,
                                        Counters counters) {
  constexpr int prefetch_distance = 1024;  // In values; the processor's own falls behind.
  Finder finder(scale.inverse_width, ranges, slots);
  uint32_t* const lanes[counter_lanes] = {counters.zero, counters.zero + counters.stride};
  int i = 0;
  for (; i + vector_size <= size; i += vector_size) {
    __builtin_prefetch(values + i + prefetch_distance);
    finder.add(_mm512_loadu_ps(values + i), full_mask);
#pragma GCC unroll 16
    for (int j = 0; j < pace; ++j) ++lanes[j % counter_lanes][waiting.slots[j]];
    waiting.slots += pace;
    waiting.size -= pace;
  }
  if (i < size) {
    const __mmask16 rest = (1 << (size - i)) - 1;
    // The others repeat a value, which does not change the range.
    finder.add(_mm512_mask_loadu_ps(_mm512_set1_ps(values[i]), rest, values + i), rest);
  }
  count_slots(waiting, counters);

  const __m512 span = _mm512_set1_ps(scale.span);
  const __mmask16 outside =
      _mm512_cmp_ps_mask(finder.highest, span, _CMP_GE_OQ) |
      _mm512_cmp_ps_mask(finder.lowest, _mm512_set1_ps(-scale.span), _CMP_LE_OQ) |
      _mm512_cmp_ps_mask(finder.finite, finder.finite, _CMP_UNORD_Q);
  if (outside != 0) return {};
  _mm512_storeu_ps(ranges.lowest.data(), finder.lowest);
  _mm512_storeu_ps(ranges.highest.data(), finder.highest);
  const int found = static_cast<int>(finder.end - slots);
  return {true, found, size - found};
}

}  // namespace avx512
#endif

using FindAndCount = BlockBins (*)(const float*, int, BlockScale, LaneRange&, int32_t*, Slots,
                                   Counters);

// One for each pace, which must not count more slots than wait.
constexpr int paces = vector_size + 1;

#ifdef REPQ_FX_AVX512
template <int... pace>
constexpr std::array<FindAndCount, paces> avx512_finders(std::integer_sequence<int, pace...>) {
  return {avx512::find_and_count<pace>...};
}
#endif

inline std::array<FindAndCount, paces> best_finders() {
#ifdef REPQ_FX_AVX512
  if (__builtin_cpu_supports("avx512f")) {
    return avx512_finders(std::make_integer_sequence<int, paces>());
  }
#endif
  std::array<FindAndCount, paces> finders;
  finders.fill(portable::find_and_count);
  return finders;
}

// Writes the slots of at most `block_size` values to `slots`, which has room for `slot_capacity`,
// widens `ranges`, and counts the slots that wait.
inline BlockBins find_and_count(const float* values, int size, BlockScale scale, LaneRange& ranges,
                                int32_t* slots, Slots waiting, Counters counters) {
  static const std::array<FindAndCount, paces> finders = best_finders();
  const int vectors = size / vector_size;
  const int pace = vectors == 0 ? 0 : std::min(waiting.size / vectors, vector_size);
  return finders[pace](values, size, scale, ranges, slots, waiting, counters);
}

}  // namespace repq_fx
