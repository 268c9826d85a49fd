#include "cpu/int8/steps/movement.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "cpu/int8/image.h"
#include "cpu/int8/kernels.h"
#include "cpu/int8/steps/settings.h"
#include "cpu/int8/steps/step.h"
#include "cpu/int8/value.h"

namespace repq_fx {
namespace {

// Copies the channels of one image to some of another, unless they lie there already.
void copy_part(const Kernels& kernels, const InputImage& from, const OutputImage& to) {
  if (from.data == to.data) return;
  run_tasks(from.pixels(), from.pixels() * from.channels / 16,
            [&](int64_t first, int64_t last) { kernels.copy_pixels(from, to, first, last); });
}

class ConcatenateStep : public SecondAxisStep {
 public:
  ConcatenateStep(const Kernels& kernels, std::vector<int64_t> inputs)
      : SecondAxisStep(std::move(inputs)), kernels_(kernels) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    int64_t channels = 0;
    for (const ValueType& type : types) {
      TORCH_CHECK_VALUE(type.with_channels(1).sizes == types[0].with_channels(1).sizes,
                        "concatenate: expected tensors of one size, got ", shape_of(types[0]),
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
      copy_part(kernels_, operand.input(), part);
      part.data += part.channels;
    }
  }

 private:
  const Kernels& kernels_;
};

// What the steps that select channels share.
class ChannelRangeStep : public SecondAxisStep {
 public:
  ChannelRangeStep(const Kernels& kernels, int64_t input)
      : SecondAxisStep({input}), kernels_(kernels) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    const ValueType& type = types[0];
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
    copy_part(kernels_, part, result.output());
  }

 private:
  virtual std::pair<int64_t, int64_t> range(int64_t channels) const = 0;

  const Kernels& kernels_;
};

class ChannelSliceStep : public ChannelRangeStep {
 public:
  ChannelSliceStep(const Kernels& kernels, int64_t input, int64_t start, int64_t stop)
      : ChannelRangeStep(kernels, input), start_(start), stop_(stop) {}

 private:
  std::pair<int64_t, int64_t> range(int64_t channels) const override {
    return {start_, std::min(stop_, channels)};
  }

  int64_t start_, stop_;
};

class ChannelChunkStep : public ChannelRangeStep {
 public:
  ChannelChunkStep(const Kernels& kernels, int64_t input, int64_t chunks, int64_t index)
      : ChannelRangeStep(kernels, input), chunks_(chunks), index_(index) {
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

class UpsampleStep : public ImageStep {
 public:
  UpsampleStep(const Kernels& kernels, int64_t input,
               const std::optional<std::vector<int64_t>>& factor,
               const std::optional<std::vector<int64_t>>& size)
      : ImageStep({input}),
        kernels_(kernels),
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
      kernels_.upsample_nearest(input, output, steps, first, last);
    });
  }

 private:
  const Kernels& kernels_;
  bool by_factor_;
  std::array<int64_t, 2> pixels_;  // Factors or sizes.
};

class PixelShuffleStep : public ImageStep {
 public:
  PixelShuffleStep(const Kernels& kernels, int64_t input, int64_t factor)
      : ImageStep({input}),
        kernels_(kernels),
        factor_(setting_of("pixel_shuffle", "factor", factor)) {}

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
      kernels_.pixel_shuffle(input, output, factor_, first, last);
    });
  }

 private:
  const Kernels& kernels_;
  int64_t factor_;
};

class FlattenStep : public Step {
 public:
  explicit FlattenStep(int64_t input) : Step({input}) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    const ValueType& type = types[0];
    TORCH_CHECK_VALUE(type.rank() > 1, "flatten: expected two axes or more, got ", shape_of(type));
    const int64_t row =
        std::accumulate(type.sizes.begin() + 1, type.sizes.end(), int64_t{1}, std::multiplies<>());
    return {{type.sizes[0], row}, false, 1};
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const ValueType& type = operands[0].type;
    if (!type.is_image() || type.rank() != 4) {
      std::vector<int64_t> strides =
          type.with_channel_axis(type.rank() - 1).strides(type.sizes.back());
      strides[0] = result.stride;
      at::from_blob(result.data, type.sizes, strides, at::TensorOptions(at::kByte))
          .copy_(operands[0].view());
      return;
    }
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

// Where an axis of so many is, counted from the end if negative.
int64_t axis_of(int64_t axis, const ValueType& type) {
  TORCH_CHECK_VALUE(-type.rank() <= axis && axis < type.rank(), "slice: expected axis ", axis,
                    ", got shape ", shape_of(type));
  return axis < 0 ? axis + type.rank() : axis;
}

class SliceStep : public Step {
 public:
  SliceStep(int64_t input, int64_t axis, int64_t start, int64_t stop, int64_t step)
      : Step({input}), axis_(axis), start_(start), stop_(stop), step_(step) {
    TORCH_CHECK_VALUE(step > 0, "slice: expected a positive step, got ", step);
  }

  ValueType infer(const std::vector<ValueType>& types) const override {
    const int64_t axis = axis_of(axis_, types[0]);
    const auto [start, stop] = range(types[0].sizes[axis]);
    ValueType result = types[0];
    result.sizes[axis] = stop == start ? 0 : (stop - start - 1) / step_ + 1;
    return result;
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const int64_t axis = axis_of(axis_, operands[0].type);
    const auto [start, stop] = range(operands[0].type.sizes[axis]);
    const at::Tensor input = operands[0].view();
    result.view().copy_(input.slice(axis, start, stop, step_));
  }

 private:
  std::pair<int64_t, int64_t> range(int64_t size) const {
    const auto bound = [&](int64_t at) {
      return std::clamp<int64_t>(at < 0 ? std::max(at, -size) + size : at, 0, size);
    };
    const int64_t start = bound(start_);
    return {start, std::max(start, bound(stop_))};
  }

  int64_t axis_, start_, stop_, step_;
};

class SelectStep : public Step {
 public:
  SelectStep(int64_t input, int64_t axis, int64_t index)
      : Step({input}), axis_(axis), index_(index) {}

  ValueType infer(const std::vector<ValueType>& types) const override {
    const ValueType& type = types[0];
    const int64_t axis = axis_of(axis_, type), size = type.sizes[axis];
    TORCH_CHECK_NOT_IMPLEMENTED(type.rank() > 1, "select: expected two axes or more, got ",
                                shape_of(type));
    TORCH_CHECK_VALUE(-size <= index_ && index_ < size, "select: expected an axis with index ",
                      index_, ", got shape ", shape_of(type));
    ValueType result = type;
    result.sizes.erase(result.sizes.begin() + axis);
    if (axis == type.channel_axis) {
      result.channel_axis = result.rank() - 1;
    } else if (axis < type.channel_axis) {
      --result.channel_axis;
    }
    return result;
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    result.view().copy_(operands[0].view().select(axis_of(axis_, operands[0].type), index_));
  }

 private:
  int64_t axis_, index_;
};

class PadStep : public ImageStep {
 public:
  // Of `padding`, in the order of torch: left, right, top, bottom.
  PadStep(int64_t input, const std::vector<int64_t>& padding, int64_t level) : ImageStep({input}) {
    constexpr int64_t most = 1 << 16;
    const auto is_bad = [](int64_t pixels) { return pixels < 0 || pixels > most; };
    TORCH_CHECK_VALUE(padding.size() == 4 && std::none_of(padding.begin(), padding.end(), is_bad) &&
                          0 <= level && level <= 255,
                      "pad: expected up to ", most, " pixels on four sides and a level, got ",
                      c10::IntArrayRef(padding), " and ", level);
    std::copy_n(padding.begin(), 4, padding_.begin());
    level_ = static_cast<uint8_t>(level);
  }

  ValueType infer(const std::vector<ValueType>& types) const override {
    require_image("pad", types[0]);
    return types[0].with_pixels(types[0].height() + padding_[2] + padding_[3],
                                types[0].width() + padding_[0] + padding_[1]);
  }

  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage in = operands[0].input();
    const OutputImage out = result.output();
    const auto run_rows = [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t y = row % out.height - padding_[2], image = row / out.height;
        for (int64_t column = 0; column < out.width; ++column) {
          uint8_t* to = out.data + (row * out.width + column) * out.stride;
          const int64_t x = column - padding_[0];
          if (y < 0 || y >= in.height || x < 0 || x >= in.width) {
            std::memset(to, level_, out.channels);
          } else {
            const int64_t pixel = (image * in.height + y) * in.width + x;
            std::memcpy(to, in.data + pixel * in.stride, out.channels);
          }
        }
      }
    };
    run_tasks(out.batch * out.height, result.type.elements() / 16, run_rows);
  }

 private:
  std::array<int64_t, 4> padding_;
  uint8_t level_;
};

}  // namespace

std::unique_ptr<Step> concatenate_step(const Kernels& kernels, std::vector<int64_t> inputs) {
  return std::make_unique<ConcatenateStep>(kernels, std::move(inputs));
}

std::unique_ptr<Step> channel_slice_step(const Kernels& kernels, int64_t input, int64_t start,
                                         int64_t stop) {
  return std::make_unique<ChannelSliceStep>(kernels, input, start, stop);
}

std::unique_ptr<Step> channel_chunk_step(const Kernels& kernels, int64_t input, int64_t chunks,
                                         int64_t index) {
  return std::make_unique<ChannelChunkStep>(kernels, input, chunks, index);
}

std::unique_ptr<Step> upsample_step(const Kernels& kernels, int64_t input,
                                    const std::optional<std::vector<int64_t>>& factor,
                                    const std::optional<std::vector<int64_t>>& size) {
  return std::make_unique<UpsampleStep>(kernels, input, factor, size);
}

std::unique_ptr<Step> pixel_shuffle_step(const Kernels& kernels, int64_t input, int64_t factor) {
  return std::make_unique<PixelShuffleStep>(kernels, input, factor);
}

std::unique_ptr<Step> flatten_step(int64_t input) { return std::make_unique<FlattenStep>(input); }

std::unique_ptr<Step> slice_step(int64_t input, int64_t axis, int64_t start, int64_t stop,
                                 int64_t step) {
  return std::make_unique<SliceStep>(input, axis, start, stop, step);
}

std::unique_ptr<Step> select_step(int64_t input, int64_t axis, int64_t index) {
  return std::make_unique<SelectStep>(input, axis, index);
}

std::unique_ptr<Step> pad_step(int64_t input, const std::vector<int64_t>& padding, int64_t level) {
  return std::make_unique<PadStep>(input, padding, level);
}

}  // namespace repq_fx
