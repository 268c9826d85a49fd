#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

#include "common/search_scale.h"
#include "cuda/launch.h"

namespace repq_fx {
namespace {

constexpr int parts = 4;      // Threads for each candidate.
constexpr int run_size = 32;  // Values whose losses a thread adds in registers.
constexpr int max_runs = 32;  // Their sums, of a chunk, are added in shared memory.
constexpr int chunk_size = run_size * max_runs;

struct Rows {
  const float* values;
  int64_t stride;
  const double* importance;  // Null for ones.
  int64_t importance_stride;
  const float* widest;
  int64_t size;
  int64_t chunks;  // Of each row.
};

// Of `count` losses, a power of two: neighbours, then neighbouring sums, and so on.
template <int count, class Loss>
__device__ double sum_in_pairs(const Loss& loss, int first = 0) {
  if constexpr (count == 1) {
    return loss(first);
  } else {
    return sum_in_pairs<count / 2>(loss, first) + sum_in_pairs<count / 2>(loss, first + count / 2);
  }
}

// Writes the scale with the smallest loss, the widest of equals, from one warp.
__device__ void choose_scale(const double* losses, float widest, float* scale) {
  constexpr int warp = 32;
  double best_loss = std::numeric_limits<double>::infinity();
  int best = 0;
  for (int c = threadIdx.x; c < candidate_count; c += warp) {
    if (losses[c] < best_loss) {
      best_loss = losses[c];
      best = c;
    }
  }
  for (int distance = warp / 2; distance > 0; distance /= 2) {
    const double other_loss = __shfl_down_sync(0xffffffff, best_loss, distance);
    const int other = __shfl_down_sync(0xffffffff, best, distance);
    if (other_loss < best_loss || (other_loss == best_loss && other < best)) {
      best_loss = other_loss;
      best = other;
    }
  }
  if (threadIdx.x == 0) *scale = candidate_scale(widest, best);
}

// A block sums the losses of all candidates over one chunk of a row after another. It writes the
// scales if the chunks are the rows, else the losses `[rows, chunks, candidates]`.
template <class Power>
__global__ void __launch_bounds__(candidate_count* parts)
    chunk_losses_kernel(Rows rows, int64_t items, ScaleSearch search, float* scales,
                        double* losses) {
  __shared__ float values[chunk_size];
  __shared__ double importance[chunk_size];
  __shared__ double sums[max_runs][candidate_count];
  const int c = threadIdx.x % candidate_count, part = threadIdx.x / candidate_count;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t row = item / rows.chunks, start = item % rows.chunks * chunk_size;
    const int size = static_cast<int>(std::min<int64_t>(chunk_size, rows.size - start));
    const int runs = (size + run_size - 1) / run_size;
    for (int i = threadIdx.x; i < runs * run_size; i += blockDim.x) {
      const int64_t column = start + i;
      values[i] = i < size ? rows.values[row * rows.stride + column] : 0.0f;
      importance[i] = i < size && rows.importance != nullptr
                          ? rows.importance[row * rows.importance_stride + column]
                          : 1.0;
    }
    __syncthreads();
    const float scale = candidate_scale(rows.widest[row], c), inverse_scale = 1.0f / scale;
    for (int run = part; run < runs; run += parts) {
      sums[run][c] = sum_in_pairs<run_size>([&](int i) {
        i += run * run_size;
        return rounding_loss<Power>(values[i], importance[i], inverse_scale, scale, search);
      });
    }
    // The partner of a lone sum would be a zero.
    for (int distance = 1; distance < runs; distance *= 2) {
      __syncthreads();
      for (int run = part * 2 * distance; run + distance < runs; run += parts * 2 * distance) {
        sums[run][c] += sums[run + distance][c];
      }
    }
    __syncthreads();
    if (losses != nullptr) {
      if (part == 0) losses[item * candidate_count + c] = sums[0][c];
    } else if (threadIdx.x < 32) {
      choose_scale(sums[0], rows.widest[row], scales + row);
    }
    __syncthreads();  // Before the next chunk overwrites the values and the sums.
  }
}

__global__ void choose_scale_kernel(const double* losses, int64_t stride, const float* widest,
                                    int64_t rows, float* scales) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    choose_scale(losses + row * stride, widest[row], scales + row);
  }
}

int grid_size(int64_t items) {
  return static_cast<int>(std::min<int64_t>(items, std::numeric_limits<int32_t>::max()));
}

at::Tensor search_scale_cuda(const at::Tensor& rows, const at::Tensor& widest, int64_t quant_min,
                             int64_t quant_max, double power,
                             const std::optional<at::Tensor>& importance) {
  const ScaleSearch search = scale_search(rows, widest, quant_min, quant_max, power, importance);
  const c10::cuda::CUDAGuard guard(rows.device());
  const at::Tensor ends = widest.contiguous();
  if (rows.numel() == 0) return ends.clone();
  const at::Tensor x = with_adjacent_columns(rows);
  const at::Tensor weights = importance ? with_adjacent_columns(*importance) : at::Tensor();
  const at::Tensor scales = at::empty_like(ends);
  const int64_t count = x.size(0), chunks = (x.size(1) + chunk_size - 1) / chunk_size;
  at::Tensor losses;
  if (chunks > 1)
    losses = at::empty({count, chunks, candidate_count}, x.options().dtype(at::kDouble));
  const Rows memory{x.const_data_ptr<float>(),
                    x.stride(0),
                    importance ? weights.const_data_ptr<double>() : nullptr,
                    importance ? weights.stride(0) : 0,
                    ends.const_data_ptr<float>(),
                    x.size(1),
                    chunks};
  const auto stream = at::cuda::getCurrentCUDAStream();
  const auto kernel = search.power == 1   ? chunk_losses_kernel<AbsolutePower>
                      : search.power == 2 ? chunk_losses_kernel<SquarePower>
                                          : chunk_losses_kernel<AnyPower>;
  kernel<<<grid_size(count * chunks), candidate_count * parts, 0, stream>>>(
      memory, count * chunks, search, scales.mutable_data_ptr<float>(),
      chunks > 1 ? losses.mutable_data_ptr<double>() : nullptr);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  if (chunks == 1) return scales;
  // In place: the sums stay where the first of their chunks was.
  for (at::Tensor sums = losses; sums.size(1) > 1; sums = sums.slice(1, 0, std::nullopt, 2)) {
    const at::Tensor odd = sums.slice(1, 1, std::nullopt, 2);
    sums.slice(1, 0, std::nullopt, 2).narrow(1, 0, odd.size(1)).add_(odd);
  }
  choose_scale_kernel<<<grid_size(count), 32, 0, stream>>>(
      losses.const_data_ptr<double>(), losses.stride(0), ends.const_data_ptr<float>(), count,
      scales.mutable_data_ptr<float>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return scales;
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, CUDA, m) { m.impl("search_scale", &search_scale_cuda); }

}  // namespace repq_fx
