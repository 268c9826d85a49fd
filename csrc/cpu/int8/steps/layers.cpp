#include "cpu/int8/steps/layers.h"

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/int8/image.h"
#include "cpu/int8/kernels.h"
#include "cpu/int8/layer.h"
#include "cpu/int8/steps/settings.h"
#include "cpu/int8/steps/step.h"
#include "cpu/int8/value.h"

namespace repq_fx {
namespace {

// Before its sizes are multiplied: those of a tensor with numbers have a product that fits int64.
void require_weight(const char* step, const at::Tensor& weight, int64_t dimensions) {
  TORCH_CHECK_VALUE(weight.dim() == dimensions && weight.numel() > 0, step,
                    ": expected a weight of ", dimensions, " dimensions, got shape ",
                    weight.sizes());
}

// What kernels rely on, for a file may hold anything.
void check_weights(const ConvolutionShape& shape, const LayerArguments& layer) {
  constexpr int64_t most_products = int64_t{1} << 16;  // More could leave int32.
  const int64_t in = shape.in_channels / std::max<int64_t>(1, shape.groups);
  const auto check = [&](const char* name, const std::optional<at::Tensor>& tensor,
                         at::ScalarType type, int64_t size) {
    TORCH_CHECK_VALUE(
        !tensor ||
            (tensor->scalar_type() == type && tensor->numel() == size && tensor->device().is_cpu()),
        "layer: expected ", size, " ", c10::getDtypeNames(type).first, " numbers as ", name);
  };
  TORCH_CHECK_VALUE(
      shape.groups > 0 && shape.out_channels > 0 && in > 0 &&
          shape.out_channels % shape.groups == 0 && in * shape.taps() <= most_products,
      "layer: expected a weight of up to ", most_products, " products and equal groups, got shape ",
      layer.weight.sizes(), " and ", shape.groups, " groups");
  check("weight", layer.weight, at::kChar, shape.out_channels * in * shape.taps());
  check("weight_scale", layer.weight_scale, at::kFloat, shape.out_channels);
  check("bias", layer.bias, at::kFloat, shape.out_channels);
  check("coarse", layer.coarse, at::kChar, shape.out_channels * in);
  check("coarse_scale", layer.coarse_scale, at::kFloat, shape.out_channels);
  TORCH_CHECK_VALUE(layer.coarse.has_value() == layer.coarse_scale.has_value(),
                    "layer: expected coarse and coarse_scale, or neither");
  TORCH_CHECK_VALUE(!layer.coarse || (shape.kernel[0] % 2 == 1 && shape.kernel[1] % 2 == 1),
                    "layer: expected a kernel with a centre for coarse weights, got ",
                    shape.kernel[0], "x", shape.kernel[1]);
}

std::vector<float> scaled(const at::Tensor& values, double factor) {
  const at::Tensor result = values.to(at::kDouble).mul(factor).to(at::kFloat).contiguous();
  const float* data = result.const_data_ptr<float>();
  return {data, data + result.numel()};
}

// What kernels are given; the scales of all sums are those of real units.
Layer layer_of(const ConvolutionShape& shape, const LayerArguments& arguments) {
  const double input_scale = std::get<0>(arguments.input_grid);
  Layer layer{
      .shape = shape,
      .scale = scaled(arguments.weight_scale, input_scale),
      .bias = arguments.bias ? scaled(*arguments.bias, 1) : std::vector<float>(shape.out_channels),
      .coarse_scale = {},
      .input_zero_point = input_grid_of(arguments.input_grid).zero_point,
      .addend = {},
      .function = function_of(arguments.function, shape.out_channels),
      .output = {}};
  if (arguments.coarse) layer.coarse_scale = scaled(*arguments.coarse_scale, input_scale);
  if (arguments.addend_grid) layer.addend = input_grid_of(*arguments.addend_grid);
  if (arguments.output_grid) layer.output = output_grid_of(*arguments.output_grid);
  return layer;
}

std::unique_ptr<LayerKernel> kernel_of(const Kernels& kernels, const ConvolutionShape& shape,
                                       const LayerArguments& arguments) {
  const at::Tensor fine = arguments.weight.contiguous();
  const at::Tensor coarse = arguments.coarse ? arguments.coarse->contiguous() : at::Tensor();
  const auto make = shape.is_depthwise() ? kernels.depthwise : kernels.convolution;
  return make({.fine = fine.const_data_ptr<int8_t>(),
               .coarse = arguments.coarse ? coarse.const_data_ptr<int8_t>() : nullptr},
              layer_of(shape, arguments));
}

class LayerStep : public Step {
 public:
  LayerStep(const Kernels& kernels, std::vector<int64_t> inputs, const ConvolutionShape& shape,
            const LayerArguments& layer)
      : Step(std::move(inputs)),
        shape_(shape),
        is_image_(layer.weight.dim() == 4),
        is_pointwise_(!shape.is_depthwise() && is_pointwise(shape)),
        gives_levels_(layer.output_grid.has_value()),
        kernel_(kernel_of(kernels, shape, layer)) {}

  // A linear layer has its channels on the last axis, whatever the rank.
  std::optional<int64_t> channel_axis(int64_t rank) const override {
    if (!is_image_) return rank - 1;
    if (rank != 3 && rank != 4) return std::nullopt;
    return rank - 3;
  }

  std::vector<ValueType> forms(std::vector<ValueType> types) const override {
    const std::vector<ValueType> input = Step::forms({types[0]});
    if (types.size() == 1) return input;
    const ValueType result = infer(input);
    TORCH_CHECK_NOT_IMPLEMENTED(joint_sizes(types[1], result) == result.sizes,
                                "convolution: expected an addend of shape ", shape_of(result),
                                ", got ", shape_of(types[1]));
    return {input[0], {result.sizes, false, result.channel_axis}};
  }

  ValueType infer(const std::vector<ValueType>& types) const override {
    const ValueType& type = types[0];
    if (is_image_) require_image("convolution", type);
    TORCH_CHECK_VALUE(type.channels() == shape_.in_channels, "convolution: expected ",
                      shape_.in_channels, " channels, got shape ", shape_of(type));
    ValueType result = type.with_channels(shape_.out_channels);
    result.is_real = !gives_levels_;
    if (is_image_) {
      for (int axis = 0; axis < 2; ++axis) {
        const int64_t extent = shape_.dilation[axis] * (shape_.kernel[axis] - 1) + 1;
        const int64_t room = type.sizes[type.rank() - 2 + axis] + 2 * shape_.padding[axis] - extent;
        TORCH_CHECK_VALUE(room >= 0, "convolution: expected an image as large as the kernel, got ",
                          shape_of(type));
        result.sizes[type.rank() - 2 + axis] = room / shape_.stride[axis] + 1;
      }
    }
    return result;
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const bool adds = operands.size() > 1;
    const LayerOutput output{.addend = adds ? operands[1].levels() : nullptr,
                             .addend_stride = adds ? operands[1].stride : 0,
                             .levels = gives_levels_ ? result.levels() : nullptr,
                             .values = gives_levels_ ? nullptr : result.reals(),
                             .stride = result.stride,
                             .height = is_pointwise_ ? 1 : result.type.height(),
                             .width = is_pointwise_ ? result.type.pixels() : result.type.width()};
    InputImage input = operands[0].input();
    if (is_pointwise_) {
      input.width = input.pixels();
      input.batch = input.height = 1;
    }
    const int64_t products = shape_.group_inputs() * shape_.taps();
    // A product takes a hundredth of the time that rounding its sum does.
    const int64_t work = result.type.elements() * (8 + products / 16);
    run_tasks(kernel_->tasks(input, output), work,
              [&](int64_t first, int64_t last) { kernel_->run(input, output, first, last); });
  }

 private:
  static bool is_pointwise(const ConvolutionShape& shape) {
    constexpr std::array<int64_t, 2> ones{1, 1}, zeros{0, 0};
    return shape.kernel == ones && shape.stride == ones && shape.padding == zeros;
  }

  ConvolutionShape shape_;
  bool is_image_;
  bool is_pointwise_;  // All pixels are one row to a kernel that divides rows.
  bool gives_levels_;
  std::unique_ptr<LayerKernel> kernel_;
};

std::unique_ptr<Step> layer_step(const Kernels& kernels, std::vector<int64_t> inputs,
                                 const ConvolutionShape& shape, const LayerArguments& layer) {
  check_weights(shape, layer);
  TORCH_CHECK_VALUE(inputs.size() == (layer.addend_grid ? 2 : 1), "layer: expected ",
                    layer.addend_grid ? "two inputs" : "one input", ", got ", inputs.size());
  return std::make_unique<LayerStep>(kernels, std::move(inputs), shape, layer);
}

}  // namespace

std::unique_ptr<Step> convolution_step(const Kernels& kernels, std::vector<int64_t> inputs,
                                       const WindowArguments& window, int64_t groups,
                                       const LayerArguments& layer) {
  const at::Tensor& weight = layer.weight;
  require_weight("convolution", weight, 4);
  const ConvolutionShape shape{
      .in_channels = weight.size(1) * setting_of("convolution", "groups", groups),
      .out_channels = weight.size(0),
      .groups = groups,
      .kernel = {weight.size(2), weight.size(3)},
      .stride = pair_of("convolution", "stride", window.stride),
      .padding = pair_of("convolution", "padding", window.padding, 0),
      .dilation = pair_of("convolution", "dilation", window.dilation)};
  return layer_step(kernels, std::move(inputs), shape, layer);
}

std::unique_ptr<Step> linear_step(const Kernels& kernels, std::vector<int64_t> inputs,
                                  const LayerArguments& layer) {
  const at::Tensor& weight = layer.weight;
  require_weight("linear", weight, 2);
  const ConvolutionShape shape{.in_channels = weight.size(1),
                               .out_channels = weight.size(0),
                               .groups = 1,
                               .kernel = {1, 1},
                               .stride = {1, 1},
                               .padding = {0, 0},
                               .dilation = {1, 1}};
  return layer_step(kernels, std::move(inputs), shape, layer);
}

}  // namespace repq_fx
