// Where the taps of a convolution's kernel meet the input.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/int8_image.h"
#include "cpu/int8_products.h"

namespace repq_fx {

struct ConvolutionShape {
  int64_t in_channels, out_channels, groups;
  int64_t kernel[2], stride[2], padding[2], dilation[2];  // Height, width.

  int64_t taps() const { return kernel[0] * kernel[1]; }
};

// Finds the inputs of tiles of output pixels, counted row by row and image by image.
class TapFinder {
 public:
  // `outside` is a pixel of real zeros; `quads` are those of one tap.
  TapFinder(const ConvolutionShape& shape, const InputImage& input, int64_t out_height,
            int64_t out_width, const uint8_t* outside, int64_t quads)
      : shape_(shape),
        input_(input),
        out_height_(out_height),
        out_width_(out_width),
        outside_(outside),
        quads_(quads),
        inputs_(shape.taps() * max_pixels),
        no_offsets_(shape.taps()) {
    for (int64_t ky = 0; ky < shape.kernel[0]; ++ky) {
      for (int64_t kx = 0; kx < shape.kernel[1]; ++kx) {
        const int64_t y = ky * shape.dilation[0], x = kx * shape.dilation[1];
        tap_offsets_.push_back((y * input.width + x) * input.stride);
        if (kx == 0) row_offsets_.push_back(tap_offsets_.back());
      }
    }
    // The taps of a row are adjacent where no channels lie between the quads of two pixels.
    joins_rows_ = shape.dilation[1] == 1 && input.stride == quads * quad_channels;
  }

  // The inputs of the pixels from `first` on; valid until the next call.
  TileInputs find(int64_t first, int64_t pixels) {
    if (first != next_) seek(first);
    next_ += pixels;
    pixels_ = pixels;
    inside_ = true;
    int64_t tops[max_pixels], lefts[max_pixels], images[max_pixels];
    const int64_t last_top = input_.height - 1 - (shape_.kernel[0] - 1) * shape_.dilation[0];
    const int64_t last_left = input_.width - 1 - (shape_.kernel[1] - 1) * shape_.dilation[1];
    for (int64_t p = 0; p < pixels; ++p) {
      tops[p] = row_ * shape_.stride[0] - shape_.padding[0];
      lefts[p] = column_ * shape_.stride[1] - shape_.padding[1];
      images[p] = image_;
      inside_ &= 0 <= tops[p] && tops[p] <= last_top && 0 <= lefts[p] && lefts[p] <= last_left;
      step();
    }
    if (!inside_) {
      for (int64_t p = 0; p < pixels; ++p) find_taps(images[p], tops[p], lefts[p], p);
      return {inputs_.data(), pixels, no_offsets_.data(), 0, shape_.taps(), quads_};
    }
    for (int64_t p = 0; p < pixels; ++p) inputs_[p] = at(images[p], tops[p], lefts[p]);
    if (joins_rows_) {
      const int64_t quads = quads_ * shape_.kernel[1];
      return {inputs_.data(), 0, row_offsets_.data(), 0, shape_.kernel[0], quads};
    }
    return {inputs_.data(), 0, tap_offsets_.data(), 0, shape_.taps(), quads_};
  }

  // The inputs of the kernel's centre, of the pixels found last.
  TileInputs centre() const {
    const int64_t tap = shape_.kernel[0] / 2 * shape_.kernel[1] + shape_.kernel[1] / 2;
    if (inside_) return {inputs_.data(), 0, tap_offsets_.data() + tap, 0, 1, quads_};
    return {inputs_.data() + tap * pixels_, 0, no_offsets_.data(), 0, 1, quads_};
  }

 private:
  const uint8_t* at(int64_t image, int64_t y, int64_t x) const {
    return input_.data + ((image * input_.height + y) * input_.width + x) * input_.stride;
  }

  void seek(int64_t pixel) {
    next_ = pixel;
    column_ = pixel % out_width_;
    row_ = pixel / out_width_ % out_height_;
    image_ = pixel / out_width_ / out_height_;
  }

  void step() {
    if (++column_ < out_width_) return;
    column_ = 0;
    if (++row_ < out_height_) return;
    row_ = 0;
    ++image_;
  }

  // Fills column `p` of the table [taps][pixels].
  void find_taps(int64_t image, int64_t top, int64_t left, int64_t p) {
    const uint8_t** input = inputs_.data() + p;
    for (int64_t ky = 0; ky < shape_.kernel[0]; ++ky) {
      const int64_t y = top + ky * shape_.dilation[0];
      for (int64_t kx = 0; kx < shape_.kernel[1]; ++kx, input += pixels_) {
        const int64_t x = left + kx * shape_.dilation[1];
        const bool inside = 0 <= y && y < input_.height && 0 <= x && x < input_.width;
        *input = inside ? at(image, y, x) : outside_;
      }
    }
  }

  const ConvolutionShape& shape_;
  const InputImage& input_;
  int64_t out_height_, out_width_;
  const uint8_t* outside_;
  int64_t quads_;
  std::vector<const uint8_t*> inputs_;
  std::vector<int64_t> tap_offsets_, row_offsets_, no_offsets_;
  bool joins_rows_;
  int64_t next_ = 0, column_ = 0, row_ = 0, image_ = 0;  // Where the next tile begins.
  int64_t pixels_ = 0;
  bool inside_ = false;  // All taps of the last tile lie in the image.
};

}  // namespace repq_fx
