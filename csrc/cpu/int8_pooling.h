// Max and average pooling of 8-bit images.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <vector>

#include "cpu/int8_epilogue.h"
#include "cpu/int8_image.h"
#include "cpu/simd_clones.h"

namespace repq_fx {

// A global pool has a kernel of the image's size.
struct PoolShape {
  std::array<int64_t, 2> kernel, stride, padding, dilation;  // Vertical, horizontal.
};

// What becomes of the mean of levels: scale is the input's, and a level of the mean's is that of
// `Epilogue`, whose other numbers are not read. Padding counts as zeros or not at all.
struct AverageSettings {
  float scale;
  int32_t input_zero_point;
  bool count_padding;
  Epilogue epilogue;
};

// The input pixels under an output's kernel.
class PoolWindow {
 public:
  PoolWindow(const PoolShape& shape, const InputImage& input, const OutputImage& output)
      : shape_(shape), input_(input), output_(output) {
    pixels_.reserve(shape.kernel[0] * shape.kernel[1]);
  }

  // Goes to an output pixel, counted over the whole batch.
  void move_to(int64_t pixel) {
    const int64_t column = pixel % output_.width, row = pixel / output_.width;
    const Taps rows = taps(0, row % output_.height, input_.height);
    const Taps columns = taps(1, column, input_.width);
    const int64_t first_row = row / output_.height * input_.height;
    pixels_.clear();
    for (int64_t y = rows.begin; y < rows.end; y += shape_.dilation[0]) {
      const uint8_t* data = input_.data + (first_row + y) * input_.width * input_.stride;
      for (int64_t x = columns.begin; x < columns.end; x += shape_.dilation[1]) {
        pixels_.push_back(data + x * input_.stride);
      }
    }
    padded_size_ = rows.padded * columns.padded;
  }

  const std::vector<const uint8_t*>& pixels() const { return pixels_; }
  // The pixels of the kernel with those in the padding. As in torch, what a kernel sticks out of
  // the padding does not count.
  int64_t padded_size() const { return padded_size_; }

 private:
  // Along an axis: those inside the image from `begin` on, and how many with the padding.
  struct Taps {
    int64_t begin, end, padded;
  };

  Taps taps(int axis, int64_t output, int64_t size) const {
    const int64_t step = shape_.dilation[axis];
    const int64_t begin = output * shape_.stride[axis] - shape_.padding[axis];
    const int64_t end = begin + (shape_.kernel[axis] - 1) * step + 1;
    const int64_t skipped = begin < 0 ? (-begin + step - 1) / step * step : 0;
    const int64_t padded_end = std::min(end, size + shape_.padding[axis]);
    return {begin + skipped, std::min(end, size), (padded_end - begin + step - 1) / step};
  }

  const PoolShape& shape_;
  const InputImage& input_;
  const OutputImage& output_;
  std::vector<const uint8_t*> pixels_;
  int64_t padded_size_ = 0;
};

namespace portable {

REPQ_FX_SIMD_CLONES
static void maximum(const std::vector<const uint8_t*>& pixels, int64_t channels, uint8_t* levels) {
  std::fill_n(levels, channels, uint8_t{0});
  for (const uint8_t* pixel : pixels) {
    REPQ_FX_NO_OVERLAP
    for (int64_t i = 0; i < channels; ++i) levels[i] = std::max(levels[i], pixel[i]);
  }
}

REPQ_FX_SIMD_CLONES
static void add_levels(const uint8_t* pixel, int64_t channels, int32_t* sums) {
  REPQ_FX_NO_OVERLAP
  for (int64_t i = 0; i < channels; ++i) sums[i] += pixel[i];
}

inline void average(const std::vector<const uint8_t*>& pixels, int64_t channels, int32_t start,
                    float factor, const Epilogue& epilogue, uint8_t* levels) {
  std::vector<int32_t> sums(channels, start);
  for (const uint8_t* pixel : pixels) add_levels(pixel, channels, sums.data());
  for (int64_t i = 0; i < channels; ++i) {
    levels[i] = to_level(static_cast<float>(sums[i]) * factor, epilogue);
  }
}

}  // namespace portable

#ifdef REPQ_FX_AVX512
namespace avx512 {

REPQ_FX_VNNI inline void maximum(const std::vector<const uint8_t*>& pixels, int64_t channels,
                                 uint8_t* levels) {
  for (int64_t c = 0; c < channels; c += 64) {
    const __mmask64 mask = channels - c >= 64 ? ~uint64_t{0} : (uint64_t{1} << (channels - c)) - 1;
    __m512i largest = _mm512_setzero_si512();
    for (const uint8_t* pixel : pixels) {
      largest = _mm512_max_epu8(largest, _mm512_maskz_loadu_epi8(mask, pixel + c));
    }
    _mm512_mask_storeu_epi8(levels + c, mask, largest);
  }
}

REPQ_FX_VNNI inline void average(const std::vector<const uint8_t*>& pixels, int64_t channels,
                                 int32_t start, float factor, const Epilogue& epilogue,
                                 uint8_t* levels) {
  const LevelGrid grid(epilogue);
  for (int64_t c = 0; c < channels; c += lanes) {
    const __mmask16 mask = first_lanes(channels - c);
    __m512i sums = _mm512_set1_epi32(start);
    for (const uint8_t* pixel : pixels) {
      const __m128i bytes = _mm_maskz_loadu_epi8(mask, pixel + c);
      sums = _mm512_add_epi32(sums, _mm512_maskz_cvtepu8_epi32(all, bytes));
    }
    const __m512 values =
        _mm512_mul_ps(_mm512_maskz_cvtepi32_ps(all, sums), _mm512_set1_ps(factor));
    _mm_mask_storeu_epi8(levels + c, mask, grid.round(_mm512_mul_ps(values, grid.inverse_scale)));
  }
}

}  // namespace avx512
#endif

// The output pixels from `first` to `last`, counted over the whole batch. Padding never wins.
inline void max_pool(const PoolShape& shape, const InputImage& input, const OutputImage& output,
                     int64_t first, int64_t last) {
  PoolWindow window(shape, input, output);
  for (int64_t pixel = first; pixel < last; ++pixel) {
    window.move_to(pixel);
    uint8_t* levels = output.data + pixel * output.stride;
#ifdef REPQ_FX_AVX512
    if (has_vnni()) {
      avx512::maximum(window.pixels(), input.channels, levels);
      continue;
    }
#endif
    portable::maximum(window.pixels(), input.channels, levels);
  }
}

inline void average_pool(const PoolShape& shape, const AverageSettings& settings,
                         const InputImage& input, const OutputImage& output, int64_t first,
                         int64_t last) {
  PoolWindow window(shape, input, output);
  for (int64_t pixel = first; pixel < last; ++pixel) {
    window.move_to(pixel);
    const auto count = std::ssize(window.pixels());
    const int64_t divisor = settings.count_padding ? window.padded_size() : count;
    const auto start = static_cast<int32_t>(-count * settings.input_zero_point);
    const float factor = settings.scale / static_cast<float>(divisor);
    uint8_t* levels = output.data + pixel * output.stride;
#ifdef REPQ_FX_AVX512
    if (has_vnni()) {
      avx512::average(window.pixels(), input.channels, start, factor, settings.epilogue, levels);
      continue;
    }
#endif
    portable::average(window.pixels(), input.channels, start, factor, settings.epilogue, levels);
  }
}

}  // namespace repq_fx
