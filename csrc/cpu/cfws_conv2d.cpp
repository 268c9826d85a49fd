// Convolution with coarse + fine split weights. oneDNN multiplies the fine kernel to float32; the
// coarse one, a 1x1 kernel at the fine kernel's centre, is multiplied here on the way to 8 bits.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "cpu/coarse_tile.h"

namespace repq_fx {
namespace {

constexpr int64_t grain_size = 1LL << 15;  // Output values that pay for waking a thread.

at::Tensor fine_conv2d(const at::Tensor& input, double input_scale, int64_t input_zero_point,
                       const at::Tensor& fine, const at::Tensor& fine_scale,
                       const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                       at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups) {
  using List = torch::List<int64_t>;
  using Scalars = torch::List<std::optional<at::Scalar>>;
  // libtorch exports no oneDNN symbol, but its dispatcher leads there.
  static const auto conv =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("onednn::qconv2d_pointwise", "")
          .typed<at::Tensor(at::Tensor, double, int64_t, at::Tensor, at::Tensor, at::Tensor,
                            std::optional<at::Tensor>, List, List, List, int64_t, double, int64_t,
                            std::optional<at::ScalarType>, std::string_view, Scalars,
                            std::optional<std::string_view>)>();
  return conv.call(input, input_scale, input_zero_point, fine, fine_scale,
                   /*weight_zero_point=*/at::zeros({1}, at::kLong), bias, List(stride.vec()),
                   List(padding.vec()), List(dilation.vec()), groups, /*output_scale=*/1.0,
                   /*output_zero_point=*/0, /*output_dtype=*/at::kFloat, "none", Scalars(), "");
}

// The input pixels that the kernel's centre meets: `stride * i + offset` for output position i.
struct CentreTap {
  CentreTap(const at::Tensor& input, const at::Tensor& output, int64_t zp)
      : height(input.size(2)),
        width(input.size(3)),
        channels(input.size(1)),
        out_height(output.size(2)),
        out_width(output.size(3)),
        data(input.const_data_ptr<uint8_t>()),
        zero(channels, zp) {}
  int64_t height, width, channels, out_height, out_width;
  const uint8_t* data;  // Channels last.
  std::array<int64_t, 2> stride, offset;
  std::vector<uint8_t> zero;  // A pixel of real zeros, met outside the image.

  // Fills `tile.inputs` for the output pixels from `begin` on, counted over the whole batch.
  void find(int64_t begin, Tile& tile) const {
    // Division is slow, so only the first pixel is found by it.
    int64_t column = begin % out_width;
    int64_t row = begin / out_width % out_height;
    int64_t image = begin / (out_width * out_height);
    std::fill_n(tile.inputs, tile_pixels, zero.data());
    for (int64_t pixel = 0; pixel < tile.pixels; ++pixel) {
      const int64_t x = column * stride[1] + offset[1];
      const int64_t y = row * stride[0] + offset[0];
      if (0 <= y && y < height && 0 <= x && x < width) {
        tile.inputs[pixel] = data + ((image * height + y) * width + x) * channels;
      }
      if (++column < out_width) continue;
      column = 0;
      if (++row < out_height) continue;
      row = 0;
      ++image;
    }
  }
};

struct Kernels {
  void (*coarse)(const Tile&, const CoarseKernel&, const OutputGrid&) = portable::add_coarse;
  void (*depthwise)(const Tile&, const DepthwiseKernel&,
                    const OutputGrid&) = portable::add_depthwise;
};

Kernels best_kernels() {
#ifdef REPQ_FX_AVX512
  if (__builtin_cpu_supports("avx512vnni")) return {avx512::add_coarse, avx512::add_depthwise};
#endif
  return {};
}

// A 1x1 convolution, perhaps in groups; the weights are packed by `pack_coarse`.
class GroupedCoarse {
 public:
  GroupedCoarse(const at::Tensor& packed, const at::Tensor& scale, int64_t channels,
                int64_t zero_point)
      : packed_(packed),
        scale_(scale),
        groups_(packed.size(0)),
        in_channels_(channels / groups_),
        out_channels_(scale.numel() / groups_) {
    // sum w (x - z) = sum w x - z sum w.
    start_.resize(packed.size(0) * packed.size(1) * block_channels);
    if (zero_point == 0) return;
    const int8_t* w = packed.const_data_ptr<int8_t>();
    const int64_t quads = packed.size(2);
    for (size_t b = 0; b < start_.size(); b += block_channels)
      for (int64_t q = 0; q < quads; ++q)
        for (int c = 0; c < block_channels; ++c)
          for (int i = 0; i < quad_size; ++i) start_[b + c] -= zero_point * *w++;
  }

  void add(Tile tile, const OutputGrid& grid) const {
    static const auto add_coarse = best_kernels().coarse;
    const int64_t quads = packed_.size(2);
    // Whole quads are read, which past the last pixel's last channel would leave the tensor.
    std::vector<uint8_t> padded(in_channels_ % quad_size ? quads * quad_size * tile_pixels : 0);
    const auto inputs = std::to_array(tile.inputs);
    for (int64_t group = 0; group < groups_; ++group) {
      for (int64_t pixel = 0; pixel < tile_pixels; ++pixel) {
        tile.inputs[pixel] = inputs[pixel] + group * in_channels_;
        if (padded.empty()) continue;
        uint8_t* copy = padded.data() + pixel * quads * quad_size;
        std::copy_n(tile.inputs[pixel], in_channels_, copy);
        tile.inputs[pixel] = copy;
      }
      add_coarse(tile,
                 {packed_.const_data_ptr<int8_t>() + group * packed_.stride(0), quads,
                  start_.data() + group * packed_.size(1) * block_channels,
                  scale_.const_data_ptr<float>() + group * out_channels_, out_channels_},
                 grid);
      tile.sums += out_channels_;
      if (tile.levels != nullptr) tile.levels += out_channels_;
    }
  }

 private:
  at::Tensor packed_, scale_;
  std::vector<int32_t> start_;
  int64_t groups_, in_channels_, out_channels_;
};

class DepthwiseCoarse {
 public:
  DepthwiseCoarse(const at::Tensor& weight, const at::Tensor& scale, int64_t zero_point)
      : weight_(weight.to(at::kFloat)), scale_(scale), zero_point_(zero_point) {}

  void add(const Tile& tile, const OutputGrid& grid) const {
    static const auto add_depthwise = best_kernels().depthwise;
    add_depthwise(tile,
                  {weight_.const_data_ptr<float>(), scale_.const_data_ptr<float>(), weight_.numel(),
                   static_cast<float>(zero_point_)},
                  grid);
  }

 private:
  at::Tensor weight_, scale_;
  int64_t zero_point_;
};

template <typename Coarse>
void add_coarse(const Coarse& coarse, const CentreTap& tap, const at::Tensor& sums,
                const std::optional<at::Tensor>& levels, const OutputGrid& grid) {
  const int64_t channels = sums.size(1);
  const int64_t pixels = sums.size(0) * sums.size(2) * sums.size(3);
  float* sums_data = sums.mutable_data_ptr<float>();
  uint8_t* levels_data = levels ? levels->mutable_data_ptr<uint8_t>() : nullptr;
  const int64_t tiles = (pixels + tile_pixels - 1) / tile_pixels;
  const int64_t grain = std::max<int64_t>(1, grain_size / (tile_pixels * channels));
  at::parallel_for(0, tiles, grain, [&](int64_t first, int64_t last) {
    Tile tile{.stride = channels};
    for (int64_t index = first; index < last; ++index) {
      const int64_t begin = index * tile_pixels;
      tile.pixels = std::min(tile_pixels, pixels - begin);
      tile.sums = sums_data + begin * channels;
      if (levels_data != nullptr) tile.levels = levels_data + begin * channels;
      tap.find(begin, tile);
      coarse.add(tile, grid);
    }
  });
}

at::Tensor cfws_conv2d_onednn(const at::Tensor& input, double input_scale, int64_t input_zero_point,
                              const at::Tensor& fine, const at::Tensor& fine_scale,
                              const at::Tensor& coarse, const at::Tensor& coarse_scale,
                              const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
                              at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                              std::optional<double> output_scale, int64_t output_zero_point,
                              int64_t quant_min, int64_t quant_max) {
  const at::Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor sums = fine_conv2d(x, input_scale, input_zero_point, fine, fine_scale, bias,
                                      stride, padding, dilation, groups);
  std::optional<at::Tensor> levels;
  OutputGrid grid{};
  if (output_scale) {
    levels = at::empty_like(sums, sums.options().dtype(at::kByte));
    grid = {
        1.0f / static_cast<float>(*output_scale), static_cast<float>(quant_min - output_zero_point),
        static_cast<float>(quant_max - output_zero_point), static_cast<int32_t>(output_zero_point)};
  }
  CentreTap tap(x, sums, input_zero_point);
  for (int axis = 0; axis < 2; ++axis) {
    tap.stride[axis] = stride[axis];
    tap.offset[axis] = dilation[axis] * (fine.size(2 + axis) / 2) - padding[axis];
  }
  const at::Tensor scale = coarse_scale * static_cast<float>(input_scale);
  if (coarse.dim() == 1) {
    add_coarse(DepthwiseCoarse(coarse, scale, input_zero_point), tap, sums, levels, grid);
  } else {
    add_coarse(GroupedCoarse(coarse, scale, x.size(1), input_zero_point), tap, sums, levels, grid);
  }
  return levels.value_or(sums);
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, MkldnnCPU, m) { m.impl("cfws_conv2d", &cfws_conv2d_onednn); }

}  // namespace repq_fx
