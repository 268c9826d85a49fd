// Steps that only move, select or repeat levels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/int8_settings.h"
#include "cpu/int8_step.h"

namespace repq_fx {

// Copies some channels of all pixels, unless they lie there already.
inline void copy_channels(const uint8_t* from, int64_t from_stride, uint8_t* to, int64_t to_stride,
                          int64_t pixels, int64_t channels) {
  if (from == to) return;
  run_tasks(pixels, pixels * channels / 16, [=](int64_t first, int64_t last) {
    for (int64_t pixel = first; pixel < last; ++pixel) {
      std::memcpy(to + pixel * to_stride, from + pixel * from_stride, channels);
    }
  });
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
    uint8_t* to = result.levels();
    for (const Operand& operand : operands) {
      const int64_t channels = operand.type.channels();
      copy_channels(operand.levels(), operand.stride, to, result.stride, operand.type.pixels(),
                    channels);
      to += channels;
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
    TORCH_CHECK_VALUE(first < last, "channels: expected some of the channels of ", shape_of(type),
                      ", got ", first, " to ", last);
    return type.with_channels(last - first);
  }

  std::optional<int64_t> first_channel(const ValueType& type) const override {
    return range(type.channels()).first;
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const Operand& input = operands[0];
    const uint8_t* from = input.levels() + range(input.type.channels()).first;
    copy_channels(from, input.stride, result.levels(), result.stride, result.type.pixels(),
                  result.type.channels());
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
      : ChannelRangeStep(input), chunks_(chunks), index_(index) {}

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
        pixels_(pair_of(factor ? *factor : size.value())) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    require_image("upsample", types[0]);
    if (!by_factor_) return types[0].with_pixels(pixels_[0], pixels_[1]);
    return types[0].with_pixels(types[0].height() * pixels_[0], types[0].width() * pixels_[1]);
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage in = operands[0].input();
    const OutputImage out = result.output();
    const std::vector<int64_t> rows = sources(in.height, out.height);
    const std::vector<int64_t> columns = sources(in.width, out.width);
    const int64_t count = out.batch * out.height;
    run_tasks(count, out.pixels() * out.channels / 16, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t source = row / out.height * in.height + rows[row % out.height];
        for (int64_t x = 0; x < out.width; ++x) {
          std::memcpy(out.data + (row * out.width + x) * out.stride,
                      in.data + (source * in.width + columns[x]) * in.stride, out.channels);
        }
      }
    });
  }

 private:
  // torch's rule, in float32 as there.
  static std::vector<int64_t> sources(int64_t in, int64_t out) {
    const float ratio = static_cast<float>(in) / static_cast<float>(out);
    std::vector<int64_t> indices(out);
    for (int64_t i = 0; i < out; ++i) {
      indices[i] =
          std::min(in - 1, static_cast<int64_t>(std::floor(static_cast<float>(i) * ratio)));
    }
    return indices;
  }

  bool by_factor_;
  std::array<int64_t, 2> pixels_;  // Factors or sizes.
};

class PixelShuffleStep : public Step {
 public:
  PixelShuffleStep(int64_t input, int64_t factor) : Step({input}), factor_(factor) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    const ValueType& type = types[0];
    require_image("pixel_shuffle", type);
    TORCH_CHECK_VALUE(type.channels() % (factor_ * factor_) == 0,
                      "pixel_shuffle: expected channels ", "that are a multiple of ",
                      factor_ * factor_, ", got ", shape_of(type));
    return type.with_channels(type.channels() / factor_ / factor_)
        .with_pixels(type.height() * factor_, type.width() * factor_)
        .with_channels(type.channels() / factor_ / factor_);
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage in = operands[0].input();
    const OutputImage out = result.output();
    const int64_t count = out.batch * out.height;
    run_tasks(count, out.pixels() * out.channels, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t source = row / out.height * in.height + row % out.height / factor_;
        const int64_t phase = row % out.height % factor_ * factor_;
        for (int64_t x = 0; x < out.width; ++x) {
          const uint8_t* from =
              in.data + (source * in.width + x / factor_) * in.stride + phase + x % factor_;
          uint8_t* to = out.data + (row * out.width + x) * out.stride;
          for (int64_t c = 0; c < out.channels; ++c) to[c] = from[c * factor_ * factor_];
        }
      }
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
