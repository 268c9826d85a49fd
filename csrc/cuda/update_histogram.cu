#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <cfloat>
#include <cstdint>
#include <limits>
#include <tuple>

#include "common/tensors.h"
#include "common/update_histogram.h"
#include "cuda/launch.h"

namespace repq_fx {
namespace {

using Count = unsigned long long;  // The 64-bit type that `atomicAdd` takes.

constexpr int64_t max_shared_bytes = 47 << 10;  // Of the 48 that every architecture grants.
constexpr int max_tile_rows = 32;

// Integers in the order of the floats, for `atomicMin` and `atomicMax`; their own inverse.
__host__ __device__ inline int32_t order_key(int32_t bits) {
  return bits >= 0 ? bits : bits ^ 0x7FFFFFFF;
}

constexpr int32_t infinity_bits = 0x7F800000;

// The part of the rows that a block works on: `tile_rows` neighbours from `first` on.
template <typename index_t>
struct Tile {
  int64_t first;
  int rows;
  index_t run;
  index_t span;     // Values of the tile that lie together.
  int64_t between;  // From one span to the next.
  index_t size;

  __device__ Tile(const RowLayout& layout, int tile_rows)
      : first(int64_t{blockIdx.x} * tile_rows),
        rows(static_cast<int>(min(int64_t{tile_rows}, layout.rows - first))),
        run(static_cast<index_t>(layout.run)),
        span(run * rows),
        between(layout.rows * layout.run),
        size(static_cast<index_t>(layout.size) * rows) {}
};

template <typename T, int pack>
struct alignas(sizeof(T) * pack) Pack {
  T values[pack];
};

// Calls `visit(j, row, x)` for all values of the tile that are this thread's; `j` is the place of
// the value in its pack.
template <typename T, int pack, typename index_t, typename Visit>
__device__ void for_each_value(const T* values, const Tile<index_t>& tile, bool relu, Visit visit) {
  const index_t stride = index_t{gridDim.y} * blockDim.x * pack;
  const T* first = values + tile.first * tile.run;
  for (index_t i = (index_t{blockIdx.y} * blockDim.x + threadIdx.x) * pack; i < tile.size;
       i += stride) {
    const index_t inside = i % tile.span;
    const T* address = first + static_cast<int64_t>(i / tile.span) * tile.between + inside;
    const auto loaded = *reinterpret_cast<const Pack<T, pack>*>(address);
#pragma unroll
    for (int j = 0; j < pack; ++j) {
      const auto x = static_cast<float>(loaded.values[j]);
      visit(j, static_cast<int>((inside + j) / tile.run), relu && x < 0 ? 0.0f : x);
    }
  }
}

// What the first kernel finds out about each row.
struct Range {
  int32_t* lowest;  // Order keys.
  int32_t* highest;
  Count* zeros;
  Count* non_finite;
};

template <typename T, int pack, typename index_t>
__global__ void range_kernel(const T* values, RowLayout layout, int tile_rows, bool relu,
                             Range range) {
  __shared__ int32_t lowest[max_tile_rows], highest[max_tile_rows];
  const Tile<index_t> tile(layout, tile_rows);
  if (threadIdx.x < tile.rows) {
    lowest[threadIdx.x] = order_key(infinity_bits);
    highest[threadIdx.x] = order_key(infinity_bits | INT32_MIN);
  }
  __syncthreads();
  int zero_row[pack] = {};
  unsigned int zeros[pack] = {};
  const auto add_zeros = [&](int j) {
    if (zeros[j] > 0) atomicAdd(range.zeros + tile.first + zero_row[j], Count{zeros[j]});
    zeros[j] = 0;
  };
  for_each_value<T, pack>(values, tile, relu, [&](int j, int row, float x) {
    if (x == 0) {
      if (row != zero_row[j]) add_zeros(j);
      zero_row[j] = row;
      ++zeros[j];
    }
    if (!(fabsf(x) <= FLT_MAX)) atomicAdd(range.non_finite + tile.first + row, Count{1});
    if (x != x) return;
    // Most values are inside the range so far, and need no atomic operation.
    const int32_t key = order_key(__float_as_int(x));
    if (key < *static_cast<volatile int32_t*>(lowest + row)) atomicMin(lowest + row, key);
    if (key > *static_cast<volatile int32_t*>(highest + row)) atomicMax(highest + row, key);
  });
#pragma unroll
  for (int j = 0; j < pack; ++j) add_zeros(j);
  __syncthreads();
  if (threadIdx.x < tile.rows) {
    atomicMin(range.lowest + tile.first + threadIdx.x, lowest[threadIdx.x]);
    atomicMax(range.highest + tile.first + threadIdx.x, highest[threadIdx.x]);
  }
}

struct State {
  Count* counts;
  int64_t* exponents;
  Count* zeros;
  int side;
};

// The counts over bins that are `2**doublings` times as wide, in place, by all threads of a block.
__device__ void merge_bins(Count* counts, int side, int doublings) {
  if (doublings == 0) return;
  const int shift = min(doublings, 30);
  // From zero outwards: bins are read before, or at the same time as, they are written.
  for (int start = 0; start < side; start += blockDim.x) {
    const int bin = start + threadIdx.x;
    Count above = 0, below = 0;
    const int64_t end = min(int64_t{bin + 1} << shift, int64_t{side});
    for (int64_t i = int64_t{bin} << shift; i < end; ++i) {
      above += counts[side + i];
      below += counts[side - 1 - i];
    }
    __syncthreads();
    if (bin < side) {
      counts[side + bin] = above;
      counts[side - 1 - bin] = below;
    }
    __syncthreads();
  }
}

// One block for each row: widens its bins, and counts its zeros. `refused` is set if any value of
// any row is not finite.
__global__ void widen_kernel(Range range, int64_t rows, State state, float* lowest, float* highest,
                             int32_t* refused) {
  int some = 0;
  for (int64_t row = threadIdx.x; row < rows; row += blockDim.x) some |= range.non_finite[row] > 0;
  const bool refuse = __syncthreads_or(some);
  const int64_t row = blockIdx.x;
  // The sums make 0 of -0.
  const float low = __int_as_float(order_key(range.lowest[row])) + 0.0f;
  const float high = __int_as_float(order_key(range.highest[row])) + 0.0f;
  if (threadIdx.x == 0) {
    lowest[row] = low;
    highest[row] = high;
    if (refuse) *refused = 1;
  }
  if (refuse) return;
  const int64_t stored = state.exponents[row];
  const int before =
      static_cast<int>(min(max(stored, int64_t{smallest_exponent}), int64_t{largest_exponent}));
  const int after = max(before, exponent_for(fmaxf(-low, high), state.side));
  Count* const counts = state.counts + 2 * row * state.side;
  merge_bins(counts, state.side, after - before);
  __syncthreads();
  if (threadIdx.x > 0) return;
  state.exponents[row] = after;
  state.zeros[row] += range.zeros[row];
  counts[state.side] += range.zeros[row];
}

__device__ inline int bin_of(float x, float inverse_width, int side) {
  const float product = x * inverse_width;
  // A negative value must not underflow to zero, which lies in the bin above.
  const float scaled = x < 0 ? fminf(product, -FLT_MIN) : product;
  return side + static_cast<int>(floorf(scaled));
}

// Counts what is not zero. With `shared`, every block counts in its shared memory first, so that
// blocks do not queue for the same bins. 32 bits suffice: the blocks of a full device share the
// values that fit its memory.
template <typename T, int pack, typename index_t, bool shared>
__global__ void count_kernel(const T* values, RowLayout layout, int tile_rows, bool relu,
                             State state, const int32_t* refused) {
  extern __shared__ unsigned int block_counts[];
  __shared__ float inverse_widths[max_tile_rows];
  if (*refused) return;
  const Tile<index_t> tile(layout, tile_rows);
  const int bins = 2 * state.side;
  Count* const counts = state.counts + tile.first * bins;
  if (threadIdx.x < tile.rows) {
    const int exponent = static_cast<int>(state.exponents[tile.first + threadIdx.x]);
    inverse_widths[threadIdx.x] = PowerOfTwoBins{state.side, exponent}.inverse_width();
  }
  if (shared) {
    for (int i = threadIdx.x; i < tile.rows * bins; i += blockDim.x) block_counts[i] = 0;
  }
  __syncthreads();
  for_each_value<T, pack>(values, tile, relu, [&](int, int row, float x) {
    if (x == 0) return;
    const int64_t slot = int64_t{row} * bins + bin_of(x, inverse_widths[row], state.side);
    if (shared) {
      atomicAdd(block_counts + slot, 1u);
    } else {
      atomicAdd(counts + slot, Count{1});
    }
  });
  if (!shared) return;
  __syncthreads();
  for (int i = threadIdx.x; i < tile.rows * bins; i += blockDim.x) {
    if (block_counts[i] > 0) atomicAdd(counts + i, Count{block_counts[i]});
  }
}

// As many neighbouring rows as have their counters in shared memory together.
int rows_per_tile(int64_t rows, int64_t bins) {
  const int64_t room = max_shared_bytes / (bins * static_cast<int64_t>(sizeof(unsigned int)));
  int tile_rows = 1;
  while (2 * tile_rows <= std::min<int64_t>({room, rows, max_tile_rows})) tile_rows *= 2;
  return tile_rows;
}

struct Launch {
  const at::Tensor& x;
  RowLayout layout;
  bool relu;
  Range range;
  State state;
  float* lowest;
  float* highest;
  int32_t* refused;

  template <typename T, int pack, typename index_t>
  void run() const {
    const auto stream = at::cuda::getCurrentCUDAStream();
    const T* values = x.const_data_ptr<T>();
    const int64_t bins = 2 * int64_t{state.side};
    const int tile_rows = rows_per_tile(layout.rows, bins);
    const int64_t tiles = (layout.rows + tile_rows - 1) / tile_rows;
    const int64_t blocks = std::max<int64_t>(block_count(x.numel() / pack + 1) / tiles, 1);
    const dim3 grid(static_cast<unsigned int>(tiles), static_cast<unsigned int>(blocks));
    range_kernel<T, pack, index_t>
        <<<grid, threads_per_block, 0, stream>>>(values, layout, tile_rows, relu, range);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    widen_kernel<<<static_cast<unsigned int>(layout.rows), threads_per_block, 0, stream>>>(
        range, layout.rows, state, lowest, highest, refused);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    const int64_t shared_bytes = tile_rows * bins * static_cast<int64_t>(sizeof(unsigned int));
    const bool fits = shared_bytes <= max_shared_bytes;
    const auto count =
        fits ? count_kernel<T, pack, index_t, true> : count_kernel<T, pack, index_t, false>;
    count<<<grid, threads_per_block, fits ? shared_bytes : 0, stream>>>(values, layout, tile_rows,
                                                                        relu, state, refused);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }

  // Packs of 16 bytes, where they lie aligned and inside the runs of a tile.
  template <typename T>
  void run() const {
    constexpr int pack = 16 / sizeof(T);
    const int64_t tile_rows = rows_per_tile(layout.rows, 2 * int64_t{state.side});
    const bool aligned = reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0 &&
                         layout.rows * layout.run % pack == 0 && tile_rows * layout.run % pack == 0;
    const bool small = x.numel() <= std::numeric_limits<int32_t>::max();
    if (aligned) {
      small ? run<T, pack, uint32_t>() : run<T, pack, uint64_t>();
    } else {
      small ? run<T, 1, uint32_t>() : run<T, 1, uint64_t>();
    }
  }
};

std::tuple<at::Tensor, at::Tensor, at::Tensor> update_histogram_cuda(
    at::Tensor& counts, at::Tensor& exponents, at::Tensor& zeros, const at::Tensor& input,
    std::optional<int64_t> axis, bool relu) {
  check_update_histogram(counts, exponents, zeros, input, axis);
  const c10::cuda::CUDAGuard guard(input.device());
  const at::Tensor x = dense(input);
  const RowLayout layout = row_layout(x, axis);
  const auto integers = exponents.options().dtype(at::kInt);
  const auto floats = exponents.options().dtype(at::kFloat);
  if (x.numel() == 0) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    return {at::full(exponents.sizes(), infinity, floats),
            at::full(exponents.sizes(), -infinity, floats), at::zeros_like(exponents)};
  }
  const at::Tensor lowest = at::empty(exponents.sizes(), floats);
  const at::Tensor highest = at::empty_like(lowest);
  const at::Tensor non_finite = at::zeros_like(exponents);
  const at::Tensor new_zeros = at::zeros_like(exponents);
  const at::Tensor low = at::full({layout.rows}, order_key(infinity_bits), integers);
  const at::Tensor high = at::full({layout.rows}, order_key(infinity_bits | INT32_MIN), integers);
  const at::Tensor refused = at::zeros({1}, integers);
  const auto counters = [](const at::Tensor& tensor) {
    return reinterpret_cast<Count*>(tensor.mutable_data_ptr<int64_t>());
  };
  const Launch launch{x,
                      layout,
                      relu,
                      {low.mutable_data_ptr<int32_t>(), high.mutable_data_ptr<int32_t>(),
                       counters(new_zeros), counters(non_finite)},
                      {counters(counts), exponents.mutable_data_ptr<int64_t>(), counters(zeros),
                       static_cast<int>(counts.size(-1) / 2)},
                      lowest.mutable_data_ptr<float>(),
                      highest.mutable_data_ptr<float>(),
                      refused.mutable_data_ptr<int32_t>()};
  switch (x.scalar_type()) {
    case at::kFloat:
      launch.run<float>();
      break;
    case at::kHalf:
      launch.run<at::Half>();
      break;
    default:
      launch.run<at::BFloat16>();
  }
  return {lowest, highest, non_finite};
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CUDA, m) { m.impl("update_histogram", &update_histogram_cuda); }

}  // namespace repq_fx
