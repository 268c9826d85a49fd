#include "common/histogram.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "common/tensors.h"
#include "cpu/loops/simd_clones.h"
#include "cpu/operators.h"

namespace repq_fx {
namespace {

constexpr int block_size = 64;          // Long enough for SIMD, short enough for registers and L1.
constexpr int prefetch_distance = 512;  // In values; by measurement as good as 1024.
constexpr int wide_lanes = 8;           // Counters per bin, see `count_block`.
constexpr int64_t max_count = 1LL << 31;   // Values after which a 32-bit counter is emptied.
constexpr int64_t grain_size = 1LL << 16;  // Values that pay for waking a thread.

// Finds the bins of a block (with SIMD), then counts them (without). After a ReLU most values are
// equal, and each increment of one counter would wait for the one before: so each bin has `lanes`
// counters that take turns.
template <int lanes>
[[gnu::always_inline]] inline void count_block(const float* values, const HistogramGrid& grid,
                                               uint32_t* counters) {
  uint32_t slots[block_size];
  for (int i = 0; i < block_size; ++i) slots[i] = histogram_bin(values[i], grid) * lanes;
  for (int i = 0; i < block_size; i += lanes) {
    for (int lane = 0; lane < lanes; ++lane) ++counters[slots[i + lane] + lane];
  }
}

template <int lanes>
[[gnu::always_inline]] inline void count_values(const float* values, int64_t size,
                                                const HistogramGrid& grid, uint32_t* counters) {
  constexpr int cache_line = 64 / sizeof(float);
  int64_t i = 0;
  for (; i + block_size <= size; i += block_size) {
    // The processor's own prefetcher falls behind while bins are counted.
    for (int j = 0; j < block_size; j += cache_line) {
      __builtin_prefetch(values + i + prefetch_distance + j);
    }
    count_block<lanes>(values + i, grid, counters);
  }
  std::array<float, block_size> rest;
  rest.fill(std::numeric_limits<float>::quiet_NaN());  // Not counted.
  std::copy(values + i, values + size, rest.begin());
  count_block<lanes>(rest.data(), grid, counters);
}

// Not one template: compilers clone plain functions only.
REPQ_FX_SIMD_CLONES
void count_wide(const float* values, int64_t size, HistogramGrid grid, uint32_t* counters) {
  count_values<wide_lanes>(values, size, grid, counters);
}

REPQ_FX_SIMD_CLONES
void count_narrow(const float* values, int64_t size, HistogramGrid grid, uint32_t* counters) {
  count_values<1>(values, size, grid, counters);
}

// Adds the histogram of at most `max_count` values to `counts`.
void add_histogram(const float* values, int64_t size, const HistogramGrid& grid, int64_t* counts) {
  // Several counters per bin pay only where they are fewer than the values.
  const bool wide = size >= int64_t{wide_lanes} * grid.bins;
  const int64_t lanes = wide ? wide_lanes : 1;
  std::vector<uint32_t> counters((grid.bins + 1) * lanes);  // The last bin receives the NaNs.
  (wide ? count_wide : count_narrow)(values, size, grid, counters.data());
  for (int64_t bin = 0; bin < grid.bins; ++bin) {
    for (int64_t lane = 0; lane < lanes; ++lane) counts[bin] += counters[bin * lanes + lane];
  }
}

}  // namespace

at::Tensor histogram_cpu(const at::Tensor& input, int64_t bins, double lo, double hi) {
  const HistogramGrid grid = histogram_grid(input, bins, lo, hi);
  const at::Tensor x = dense(input);
  const float* values = x.const_data_ptr<float>();
  // One row per thread; sums of integers do not depend on which thread saw which value.
  const at::Tensor counts = new_zeros({at::get_num_threads(), bins}, at::kLong);
  auto* rows = counts.mutable_data_ptr<int64_t>();
  at::parallel_for(0, x.numel(), grain_size, [&](int64_t begin, int64_t end) {
    int64_t* row = rows + at::get_thread_num() * bins;
    for (int64_t i = begin; i < end; i += max_count) {
      add_histogram(values + i, std::min(max_count, end - i), grid, row);
    }
  });
  return counts.sum(0);
}

}  // namespace repq_fx
