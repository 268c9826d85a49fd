// Convolution with coarse + fine split weights. oneDNN multiplies the fine kernel to float32; the
// coarse one, a 1x1 kernel at the fine kernel's centre, is multiplied here on the way to codes.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <string_view>
#include <vector>

#include "cpu/coarse_tile.h"
#include "cpu/int8_conv2d.h"

namespace repq_fx {
namespace {

constexpr const char* op = "cfws_conv2d";
constexpr int64_t grain_size = 1LL << 15;  // Output values that pay for waking a thread.

at::Tensor fine_conv2d(const at::Tensor& input, double input_scale, int64_t input_zero_point,
                       const at::Tensor& fine, const at::Tensor& fine_scale,
                       const std::optional<at::Tensor>& bias, const ConvGeometry& geometry,
                       int64_t groups) {
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
  const auto list = [](const std::array<int64_t, 2>& values) { return List({values[0], values[1]}); };
  return conv.call(input, input_scale, input_zero_point, fine, fine_scale,
                   /*weight_zero_point=*/at::zeros({1}, at::kLong), bias, list(geometry.stride),
                   list(geometry.padding), list(geometry.dilation), groups, /*output_scale=*/1.0,
                   /*output_zero_point=*/0, /*output_dtype=*/at::kFloat, "none", Scalars(), "");
}

// The input pixels that the kernel's centre meets.
class CentreTap {
 public:
  CentreTap(const at::Tensor& input, const at::Tensor& output, const ConvGeometry& geometry,
            int64_t zero_point)
      : data_(input.const_data_ptr<uint8_t>()),
        channels_(input.size(1)),
        height_(input.size(2)),
        width_(input.size(3)),
        out_height_(output.size(2)),
        out_width_(output.size(3)),
        geometry_(geometry),
        zero_(ceil_divide(channels_, quad_size) * quad_size, static_cast<uint8_t>(zero_point)) {}

  // Fills `tile.inputs` for the output pixels from `begin` on, counted over the whole batch.
  void find(int64_t begin, CoarseTile& tile) const {
    std::fill_n(tile.inputs, tile_pixels, zero_.data());
    // Division is slow, so only the first pixel is found by it.
    int64_t column = begin % out_width_;
    int64_t row = begin / out_width_ % out_height_;
    int64_t image = begin / (out_width_ * out_height_);
    for (int64_t pixel = 0; pixel < tile.pixels; ++pixel) {
      const int64_t y = row * geometry_.stride[0] + geometry_.centre(0);
      const int64_t x = column * geometry_.stride[1] + geometry_.centre(1);
      if (0 <= y && y < height_ && 0 <= x && x < width_) {
        tile.inputs[pixel] = data_ + ((image * height_ + y) * width_ + x) * channels_;
      }
      if (++column < out_width_) continue;
      column = 0;
      if (++row < out_height_) continue;
      row = 0;
      ++image;
    }
  }

 private:
  const uint8_t* data_;
  int64_t channels_, height_, width_, out_height_, out_width_;
  ConvGeometry geometry_;
  std::vector<uint8_t> zero_;  // A pixel of real zeros, met outside the image.
};

// The coarse kernel of all groups, as `pack_weights` in repq_fx/ops/cfws_conv2d.py lays it out.
class GroupedCoarse {
 public:
  GroupedCoarse(const at::Tensor& packed, const at::Tensor& scale, int64_t in_channels,
                int64_t zero_point)
      : packed_(packed.contiguous()),
        scale_(scale),
        groups_(packed.size(0)),
        blocks_(packed.size(1)),
        quads_(packed.size(2)),
        in_channels_(in_channels / groups_),
        out_channels_(scale.numel() / groups_),
        start_(groups_ * blocks_ * block_channels) {
    if (zero_point == 0) return;
    // sum w (x - z) = sum w x - z sum w.
    const int8_t* weight = packed_.const_data_ptr<int8_t>();
    for (int64_t first = 0; first < std::ssize(start_); first += block_channels) {
      for (int64_t quad = 0; quad < quads_; ++quad) {
        for (int64_t channel = 0; channel < block_channels; ++channel) {
          for (int64_t i = 0; i < quad_size; ++i) {
            start_[first + channel] -= static_cast<int32_t>(zero_point) * *weight++;
          }
        }
      }
    }
  }

  void add(CoarseTile tile) const {
    static const auto add_coarse = best_add_coarse();
    const auto pixels = std::to_array(tile.inputs);
    std::vector<uint8_t> padded;
    if (in_channels_ % quad_size != 0) padded.resize(tile_pixels * quads_ * quad_size);
    for (int64_t group = 0; group < groups_; ++group) {
      for (int64_t pixel = 0; pixel < tile_pixels; ++pixel) {
        tile.inputs[pixel] = pixels[pixel] + group * in_channels_;
        if (padded.empty()) continue;
        // Reading whole quads of the last pixel would leave the tensor.
        uint8_t* copy = padded.data() + pixel * quads_ * quad_size;
        std::copy_n(tile.inputs[pixel], in_channels_, copy);
        tile.inputs[pixel] = copy;
      }
      const int64_t first = group * blocks_ * block_channels;
      add_coarse(tile, {packed_.const_data_ptr<int8_t>() + first * quads_ * quad_size,
                        start_.data() + first, scale_.const_data_ptr<float>() + group * out_channels_,
                        out_channels_, quads_});
      tile.sums += out_channels_;
      tile.output = tile.output.at(out_channels_);
    }
  }

 private:
  at::Tensor packed_, scale_;
  int64_t groups_, blocks_, quads_, in_channels_, out_channels_;
  std::vector<int32_t> start_;
};

at::Tensor cfws_conv2d_onednn(
    const at::Tensor& input, double input_scale, int64_t input_zero_point, const at::Tensor& fine,
    const at::Tensor& fine_scale, const at::Tensor& coarse, const at::Tensor& coarse_scale,
    const std::optional<at::Tensor>& bias, at::IntArrayRef stride, at::IntArrayRef padding,
    at::IntArrayRef dilation, int64_t groups, std::optional<double> output_scale,
    int64_t output_zero_point, int64_t quant_min, int64_t quant_max) {
  check_input(op, input, input_zero_point);
  const int64_t channels = fine.size(0);
  check_per_channel(op, "fine_scale", fine_scale, channels);
  check_per_channel(op, "coarse_scale", coarse_scale, channels);
  if (bias) check_per_channel(op, "bias", *bias, channels);
  const std::vector<int64_t> packed_shape{groups, ceil_divide(channels / groups, block_channels),
                                          ceil_divide(input.size(1) / groups, quad_size),
                                          block_channels, quad_size};
  TORCH_CHECK_VALUE(coarse.scalar_type() == at::kChar && coarse.sizes() == packed_shape, op,
                    ": expected coarse packed by pack_weights to int8 ",
                    at::IntArrayRef(packed_shape), ", got ", coarse.toString(), coarse.sizes());

  const ConvGeometry geometry(fine, stride, padding, dilation);
  const at::Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
  at::Tensor sums = fine_conv2d(x, input_scale, input_zero_point, fine, fine_scale, bias, geometry,
                                groups);
  std::optional<QuantizeGrid> grid;
  at::Tensor result = sums;
  if (output_scale) {
    grid = quantize_grid(sums, *output_scale, output_zero_point, quant_min, quant_max);
    result = at::empty_like(sums, at::kByte);
  }
  const at::Tensor scale = coarse_scale * static_cast<float>(input_scale);
  const GroupedCoarse product(coarse, scale, x.size(1), input_zero_point);
  const CentreTap tap(x, sums, geometry, input_zero_point);
  const Output output(result, grid);
  float* values = sums.mutable_data_ptr<float>();
  const int64_t pixels = sums.numel() / channels;
  at::parallel_for(0, ceil_divide(pixels, tile_pixels), ceil_divide(grain_size, tile_pixels * channels),
                   [&](int64_t begin, int64_t end) {
    CoarseTile tile;
    tile.stride = channels;
    for (int64_t pixel = begin * tile_pixels; pixel < std::min(end * tile_pixels, pixels); pixel += tile_pixels) {
      tile.pixels = std::min(tile_pixels, pixels - pixel);
      tile.sums = values + pixel * channels;
      tile.output = output.at(pixel * channels);
      tap.find(pixel, tile);
      product.add(tile);
    }
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(repq_fx, MkldnnCPU, m) { m.impl("cfws_conv2d", &cfws_conv2d_onednn); }

}  // namespace repq_fx
