// Steps with weights: convolutions and linear layers.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cpu/int8/kernels/convolution.h"
#include "cpu/int8/kernels/depthwise.h"
#include "cpu/int8/steps/settings.h"
#include "cpu/int8/steps/step.h"

namespace repq_fx {

struct LayerArguments {
  const at::Tensor& weight;  // int8 [out, in / groups, ...]
  const at::Tensor& weight_scale;
  const std::optional<at::Tensor>& bias;
  const std::optional<at::Tensor>& coarse;
  const std::optional<at::Tensor>& coarse_scale;
  const GridArgument& input_grid;
  const std::optional<GridArgument>& addend_grid;
  const Epilogue& epilogue;
  bool gives_levels;
};

// Before its sizes are multiplied: those of a tensor with numbers have a product that fits int64.
inline void require_weight(const char* step, const at::Tensor& weight, int64_t dimensions) {
  TORCH_CHECK_VALUE(weight.dim() == dimensions && weight.numel() > 0, step,
                    ": expected a weight of ", dimensions, " dimensions, got shape ",
                    weight.sizes());
}

// What kernels rely on, for a file may hold anything.
inline void check_weights(const ConvolutionShape& shape, const LayerArguments& layer) {
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
  checked(layer.input_grid);
  if (layer.addend_grid) checked(*layer.addend_grid);
}

inline std::vector<float> scaled(const at::Tensor& values, double factor) {
  const at::Tensor result = (values.to(at::kDouble) * factor).to(at::kFloat).contiguous();
  const float* data = result.const_data_ptr<float>();
  return {data, data + result.numel()};
}

// What convolutions of all kinds do with the arguments of a layer.
template <typename Kernel>
class LayerStep : public Step {
 public:
  template <typename Shape>
  LayerStep(std::vector<int64_t> inputs, const Shape& shape, const ConvolutionShape& geometry,
            const LayerArguments& layer)
      : Step(std::move(inputs)),
        geometry_(geometry),
        is_image_(layer.weight.dim() == 4),
        is_pointwise_(std::is_same_v<Kernel, Int8Convolution> && is_pointwise(geometry)),
        gives_levels_(layer.gives_levels),
        kernel_(make_kernel(shape, layer)) {}

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
    TORCH_CHECK_NOT_IMPLEMENTED(at::infer_size(types[1].sizes, result.sizes) == result.sizes,
                                "convolution: expected an addend of shape ", shape_of(result),
                                ", got ", shape_of(types[1]));
    return {input[0], {result.sizes, false, result.channel_axis}};
  }

  ValueType infer(const std::vector<ValueType>& types) const override {
    const ValueType& type = types[0];
    if (is_image_) require_image("convolution", type);
    TORCH_CHECK_VALUE(type.channels() == geometry_.in_channels, "convolution: expected ",
                      geometry_.in_channels, " channels, got shape ", shape_of(type));
    ValueType result = type.with_channels(geometry_.out_channels);
    result.is_real = !gives_levels_;
    if (is_image_) {
      for (int axis = 0; axis < 2; ++axis) {
        const int64_t extent = geometry_.dilation[axis] * (geometry_.kernel[axis] - 1) + 1;
        const int64_t room =
            type.sizes[type.rank() - 2 + axis] + 2 * geometry_.padding[axis] - extent;
        TORCH_CHECK_VALUE(room >= 0, "convolution: expected an image as large as the kernel, got ",
                          shape_of(type));
        result.sizes[type.rank() - 2 + axis] = room / geometry_.stride[axis] + 1;
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
    const int64_t products = geometry_.in_channels / geometry_.groups * geometry_.taps();
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

  template <typename Shape>
  static std::unique_ptr<Kernel> make_kernel(const Shape& shape, const LayerArguments& layer) {
    const at::Tensor weight = layer.weight.contiguous();
    const at::Tensor coarse = layer.coarse ? layer.coarse->contiguous() : at::Tensor();
    const double input_scale = std::get<0>(layer.input_grid);
    const at::Tensor bias =
        layer.bias ? *layer.bias : at::zeros({weight.size(0)}, at::TensorOptions(at::kFloat));
    Epilogue epilogue = layer.epilogue;
    if (layer.addend_grid) {
      epilogue.addend_scale = static_cast<float>(std::get<0>(*layer.addend_grid));
      epilogue.addend_zero = static_cast<int32_t>(std::get<1>(*layer.addend_grid));
    }
    return std::make_unique<Kernel>(
        shape, weight.const_data_ptr<int8_t>(), scaled(layer.weight_scale, input_scale),
        scaled(bias, 1), layer.coarse ? coarse.const_data_ptr<int8_t>() : nullptr,
        layer.coarse ? scaled(*layer.coarse_scale, input_scale) : std::vector<float>(),
        static_cast<int32_t>(std::get<1>(layer.input_grid)), epilogue);
  }

  ConvolutionShape geometry_;
  bool is_image_;
  bool is_pointwise_;  // All pixels are one row to a kernel that divides rows.
  bool gives_levels_;
  std::unique_ptr<Kernel> kernel_;
};

inline std::unique_ptr<Step> make_convolution(std::vector<int64_t> inputs,
                                              const ConvolutionShape& shape,
                                              const LayerArguments& layer) {
  check_weights(shape, layer);
  TORCH_CHECK_VALUE(inputs.size() == (layer.addend_grid ? 2 : 1), "layer: expected ",
                    layer.addend_grid ? "two inputs" : "one input", ", got ", inputs.size());
  const bool is_depthwise =
      shape.groups > 1 && shape.groups == shape.in_channels && shape.groups == shape.out_channels;
  if (!is_depthwise) {
    return std::make_unique<LayerStep<Int8Convolution>>(std::move(inputs), shape, shape, layer);
  }
  const DepthwiseShape depthwise{shape.in_channels, shape.kernel, shape.stride, shape.padding,
                                 shape.dilation};
  return std::make_unique<LayerStep<Int8Depthwise>>(std::move(inputs), depthwise, shape, layer);
}

}  // namespace repq_fx
