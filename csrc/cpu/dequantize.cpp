#include "common/dequantize.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include "common/tensors.h"
#include "cpu/loops/simd_clones.h"
#include "cpu/operators.h"

namespace repq_fx {
namespace {

constexpr int64_t grain_size = 1 << 15;  // Values that pay for waking a thread.

REPQ_FX_SIMD_CLONES
void dequantize_values(const uint8_t* levels, float* values, int64_t size, DequantizeGrid grid) {
  for (int64_t i = 0; i < size; ++i) values[i] = dequantize_value(levels[i], grid);
}

REPQ_FX_SIMD_CLONES
void dequantize_values(const int8_t* levels, float* values, int64_t size, DequantizeGrid grid) {
  for (int64_t i = 0; i < size; ++i) values[i] = dequantize_value(levels[i], grid);
}

template <typename T>
void dequantize_all(const at::Tensor& input, const at::Tensor& output, const DequantizeGrid& grid) {
  const T* levels = input.const_data_ptr<T>();
  float* values = output.mutable_data_ptr<float>();
  at::parallel_for(0, input.numel(), grain_size, [&](int64_t begin, int64_t end) {
    dequantize_values(levels + begin, values + begin, end - begin, grid);
  });
}

}  // namespace

at::Tensor dequantize_cpu(const at::Tensor& input, double scale, int64_t zero_point) {
  const DequantizeGrid grid = dequantize_grid(input, scale, zero_point);
  const at::Tensor levels = dense(input);
  const at::Tensor output = new_like(levels, at::kFloat);
  const bool is_unsigned = levels.scalar_type() == at::kByte;
  is_unsigned ? dequantize_all<uint8_t>(levels, output, grid)
              : dequantize_all<int8_t>(levels, output, grid);
  return output;
}

}  // namespace repq_fx
