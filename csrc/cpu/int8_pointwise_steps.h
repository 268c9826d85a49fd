// Steps on single elements.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cpu/int8_epilogue.h"
#include "cpu/int8_settings.h"
#include "cpu/int8_step.h"

namespace repq_fx {

class QuantizeStep : public Step {
 public:
  QuantizeStep(int64_t input, const GridArgument& grid)
      : Step({input}), epilogue_(epilogue_of("none", 0, grid)) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    TORCH_CHECK_TYPE(types[0].is_real, "quantize: expected float32 input, got uint8");
    return {types[0].sizes};
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const Operand& input = operands[0];
    at::Tensor x;
    int64_t channels = input.type.channels(), pixels = input.type.pixels();
    const float* data = input.reals();
    int64_t stride = input.stride;
    if (input.tensor != nullptr) {
      x = input.tensor->contiguous(input.type.is_image() ? at::MemoryFormat::ChannelsLast
                                                         : at::MemoryFormat::Contiguous);
      data = x.const_data_ptr<float>();
      stride = channels;
    }
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t c = 0; c < channels; ++c)
        result.levels()[p * result.stride + c] =
            portable::to_level(data[p * stride + c], epilogue_);
  }

 private:
  Epilogue epilogue_;
};

class DequantizeStep : public Step {
 public:
  DequantizeStep(int64_t input, const GridArgument& grid) : Step({input}), grid_(grid) {}
  ValueType infer(const std::vector<ValueType>& types) const override {
    return {types[0].sizes, true};
  }
  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const Operand& input = operands[0];
    for (int64_t p = 0; p < input.type.pixels(); ++p)
      for (int64_t c = 0; c < input.type.channels(); ++c)
        result.reals()[p * result.stride + c] =
            static_cast<float>(input.levels()[p * input.stride + c] -
                               static_cast<int32_t>(std::get<1>(grid_))) *
            static_cast<float>(std::get<0>(grid_));
  }

 private:
  GridArgument grid_;
};

class LookupStep : public Step {
 public:
  LookupStep(int64_t input, const at::Tensor& table) : Step({input}) {
    TORCH_CHECK_VALUE(table.numel() == 256, "lookup: expected a table of 256 levels, got ",
                      table.numel());
    std::copy_n(table.contiguous().const_data_ptr<uint8_t>(), 256, table_.begin());
  }
  ValueType infer(const std::vector<ValueType>& types) const override { return types[0]; }
  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const Operand& input = operands[0];
    for (int64_t p = 0; p < input.type.pixels(); ++p)
      for (int64_t c = 0; c < input.type.channels(); ++c)
        result.levels()[p * result.stride + c] = table_[input.levels()[p * input.stride + c]];
  }

 private:
  std::array<uint8_t, 256> table_;
};

class CombineStep : public Step {
 public:
  CombineStep(std::vector<int64_t> inputs, std::string operation, const GridArgument& first_grid,
              const GridArgument& second_grid, const Epilogue& epilogue)
      : Step(std::move(inputs)),
        operation_(std::move(operation)),
        grids_{first_grid, second_grid},
        epilogue_(epilogue) {}
  ValueType infer(const std::vector<ValueType>& types) const override {
    ValueType type = types[0].pixels() >= types[1].pixels() ? types[0] : types[1];
    type.is_real = epilogue_.inverse_scale == 0;
    for (const ValueType& each : types)
      TORCH_CHECK_NOT_IMPLEMENTED(
          each.sizes == type.sizes ||
              (each.is_image() && type.is_image() && each.pixels() == each.batch() &&
               each.batch() == type.batch() && each.channels() == type.channels()),
          "combine: expected tensors of one shape, or one pixel for each image, got ",
          shape_of(types[0]), " and ", shape_of(types[1]));
    return type;
  }
  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const int64_t pixels = result.type.pixels(),
                  each = pixels / std::max<int64_t>(1, result.type.batch());
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t c = 0; c < result.type.channels(); ++c) {
        float v[2];
        for (int i = 0; i < 2; ++i) {
          const Operand& o = operands[i];
          const int64_t q = o.type.pixels() == pixels ? p : p / each;
          v[i] = static_cast<float>(o.levels()[q * o.stride + c] -
                                    static_cast<int32_t>(std::get<1>(grids_[i]))) *
                 static_cast<float>(std::get<0>(grids_[i]));
        }
        const float value = portable::activate(operation_ == "sum"       ? v[0] + v[1]
                                               : operation_ == "product" ? v[0] * v[1]
                                                                         : v[0] - v[1],
                                               epilogue_);
        if (result.type.is_real)
          result.reals()[p * result.stride + c] = value;
        else
          result.levels()[p * result.stride + c] = portable::to_level(value, epilogue_);
      }
  }

 private:
  std::string operation_;
  std::array<GridArgument, 2> grids_;
  Epilogue epilogue_;
};

}  // namespace repq_fx
