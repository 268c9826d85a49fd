// Steps that only move, select or repeat levels.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/int8_layout.h"
#include "cpu/int8_settings.h"
#include "cpu/int8_step.h"

namespace repq_fx {

// Copies the channels of one image to some of another, unless they lie there already.
inline void copy_part(const InputImage& from, const OutputImage& to) {
  if (from.data == to.data) return;
  run_tasks(from.pixels(), from.pixels() * from.channels / 16,
            [&](int64_t first, int64_t last) { copy_channels(from, to, first, last); });
}

class ConcatenateStep : public Step {
 public:
  using Step::Step;

  ValueType infer(const std::vector<ValueType>& types) const override {
    int64_t channels = 0;
    for (const ValueType& type : types) {
      TORCH_CHECK_NOT_IMPLEMENTED(type.is_image() || type.sizes.size() == 2,
                                  "concatenate: expected images or rows, got ", shape_of(type));
      TORCH_CHECK_VALUE(type.with_channels(1).sizes == types[0].with_channels(1).sizes,
                        "concatenate: expected images of one size, got ", shape_of(types[0]),
                        " and ", shape_of(type));
      channels += type.channels();
    }
    return types[0].with_channels(channels);
  }

  bool joins() const override { return true; }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    OutputImage part = result.output();
    for (const Operand& operand : operands) {
      part.channels = operand.type.channels();
      copy_part(operand.input(), part);
      part.data += part.channels;
    }
  }
};

// What the steps that select channels share.
class ChannelRangeStep : public Step {
 public:
  explicit ChannelRangeStep(int64_t input) : Step({input}) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    const ValueType& type = types[0];
    TORCH_CHECK_NOT_IMPLEMENTED(type.is_image() || type.sizes.size() == 2,
                                "channels: expected an image or rows, got ", shape_of(type));
    const auto [first, last] = range(type.channels());
    TORCH_CHECK_VALUE(0 <= first && first < last, "channels: expected some of the channels of ",
                      shape_of(type), ", got ", first, " to ", last);
    return type.with_channels(last - first);
  }

  std::optional<int64_t> first_channel(const ValueType& type) const override {
    return range(type.channels()).first;
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    InputImage part = operands[0].input();
    part.data += range(part.channels).first;
    part.channels = result.type.channels();
    copy_part(part, result.output());
  }

 private:
  virtual std::pair<int64_t, int64_t> range(int64_t channels) const = 0;
};

class ChannelSliceStep : public ChannelRangeStep {
 public:
  ChannelSliceStep(int64_t input, int64_t start, int64_t stop)
      : ChannelRangeStep(input), start_(start), stop_(stop) {}

 private:
  std::pair<int64_t, int64_t> range(int64_t channels) const override {
    return {start_, std::min(stop_, channels)};
  }

  int64_t start_, stop_;
};

// By the rule of `torch.chunk`.
class ChannelChunkStep : public ChannelRangeStep {
 public:
  ChannelChunkStep(int64_t input, int64_t chunks, int64_t index)
      : ChannelRangeStep(input), chunks_(chunks), index_(index) {
    setting_of("channel_chunk", "chunks", chunks);
    setting_of("channel_chunk", "index", index, 0);
  }

 private:
  std::pair<int64_t, int64_t> range(int64_t channels) const override {
    const int64_t size = (channels + chunks_ - 1) / chunks_;
    return {size * index_, std::min(size * (index_ + 1), channels)};
  }

  int64_t chunks_, index_;
};

class UpsampleStep : public Step {
 public:
  UpsampleStep(int64_t input, const std::optional<std::vector<int64_t>>& factor,
               const std::optional<std::vector<int64_t>>& size)
      : Step({input}),
        by_factor_(factor.has_value()),
        pixels_(pair_of("upsample", factor ? "factor" : "size",
                        factor ? *factor : size.value_or(std::vector<int64_t>()))) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    require_image("upsample", types[0]);
    require_pixels("upsample", types[0]);
    if (!by_factor_) return types[0].with_pixels(pixels_[0], pixels_[1]);
    return types[0].with_pixels(types[0].height() * pixels_[0], types[0].width() * pixels_[1]);
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage input = operands[0].input();
    const OutputImage output = result.output();
    const auto step = [&](int axis, int64_t in, int64_t out) {
      return by_factor_ ? 1.0f / static_cast<float>(pixels_[axis])
                        : static_cast<float>(in) / static_cast<float>(out);
    };
    const std::array<float, 2> steps{step(0, input.height, output.height),
                                     step(1, input.width, output.width)};
    const int64_t rows = output.batch * output.height;
    run_tasks(rows, result.type.elements() / 16, [&](int64_t first, int64_t last) {
      repq_fx::upsample_nearest(input, output, steps, first, last);
    });
  }

 private:
  bool by_factor_;
  std::array<int64_t, 2> pixels_;  // Factors or sizes.
};

class PixelShuffleStep : public Step {
 public:
  PixelShuffleStep(int64_t input, int64_t factor)
      : Step({input}), factor_(setting_of("pixel_shuffle", "factor", factor)) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    const ValueType& type = types[0];
    require_image("pixel_shuffle", type);
    TORCH_CHECK_VALUE(type.channels() % (factor_ * factor_) == 0,
                      "pixel_shuffle: expected channels ", "that are a multiple of ",
                      factor_ * factor_, ", got ", shape_of(type));
    return type.with_channels(type.channels() / (factor_ * factor_))
        .with_pixels(type.height() * factor_, type.width() * factor_);
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage input = operands[0].input();
    const OutputImage output = result.output();
    const int64_t rows = input.batch * input.height;
    run_tasks(rows, result.type.elements(), [&](int64_t first, int64_t last) {
      repq_fx::pixel_shuffle(input, output, factor_, first, last);
    });
  }

 private:
  int64_t factor_;
};

class FlattenStep : public Step {
 public:
  explicit FlattenStep(int64_t input) : Step({input}) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    const ValueType& type = types[0];
    TORCH_CHECK_NOT_IMPLEMENTED(type.is_image() || type.sizes.size() == 2,
                                "flatten: expected an image or rows, got ", shape_of(type));
    const int64_t rows = type.sizes[0];
    return {{rows,
             rows == 0 ? type.channels() * type.height() * type.width() : type.elements() / rows}};
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage in = operands[0].input();
    const int64_t pixels = in.height * in.width;
    for (int64_t image = 0; image < in.batch; ++image) {
      for (int64_t pixel = 0; pixel < pixels; ++pixel) {
        const uint8_t* from = in.data + (image * pixels + pixel) * in.stride;
        uint8_t* to = result.levels() + image * result.stride + pixel;
        for (int64_t c = 0; c < in.channels; ++c) to[c * pixels] = from[c];
      }
    }
  }
};

}  // namespace repq_fx
