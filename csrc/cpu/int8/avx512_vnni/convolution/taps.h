// Where the taps of a convolution's kernel meet the input.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/int8/avx512_vnni/convolution/products.h"
#include "cpu/int8/image.h"
#include "cpu/int8/layer.h"

namespace repq_fx::avx512_vnni::convolution {

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
        no_offsets_(shape.taps()),
        last_y_(input.height - 1 - (shape.kernel[0] - 1) * shape.dilation[0]),
        last_x_(input.width - 1 - (shape.kernel[1] - 1) * shape.dilation[1]) {
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
    const Position start = next_position_;
    next_ += pixels;
    pixels_ = pixels;
    inside_ = find_inside();
    if (!inside_) {
      next_position_ = start;
      find_all_taps();
      return {inputs_.data(), pixels, no_offsets_.data(), shape_.taps(), quads_};
    }
    if (joins_rows_) {
      const int64_t quads = quads_ * shape_.kernel[1];
      return {inputs_.data(), 0, row_offsets_.data(), shape_.kernel[0], quads};
    }
    return {inputs_.data(), 0, tap_offsets_.data(), shape_.taps(), quads_};
  }

  // The inputs of the kernel's centre, of the pixels found last.
  TileInputs centre() const {
    const int64_t tap = shape_.kernel[0] / 2 * shape_.kernel[1] + shape_.kernel[1] / 2;
    if (inside_) return {inputs_.data(), 0, tap_offsets_.data() + tap, 1, quads_};
    return {inputs_.data() + tap * pixels_, 0, no_offsets_.data(), 1, quads_};
  }

 private:
  // An output pixel.
  struct Position {
    int64_t image, row, column;
  };

  const uint8_t* at(int64_t image, int64_t y, int64_t x) const {
    return input_.data + ((image * input_.height + y) * input_.width + x) * input_.stride;
  }

  void seek(int64_t pixel) {
    next_ = pixel;
    next_position_ = {pixel / out_width_ / out_height_, pixel / out_width_ % out_height_,
                      pixel % out_width_};
  }

  // Passes over `pixels` of the same row.
  void advance(int64_t pixels) {
    Position& position = next_position_;
    position.column += pixels;
    if (position.column < out_width_) return;
    position.column = 0;
    if (++position.row < out_height_) return;
    position.row = 0;
    ++position.image;
  }

  // Fills the first row of the table with the pixels' first taps, if all taps are in the image.
  bool find_inside() {
    const uint8_t** inputs = inputs_.data();
    for (int64_t left_over = pixels_; left_over > 0;) {
      const auto [image, row, column] = next_position_;
      const int64_t run = std::min(left_over, out_width_ - column);
      const int64_t y = row * shape_.stride[0] - shape_.padding[0];
      const int64_t x = column * shape_.stride[1] - shape_.padding[1];
      if (y < 0 || y > last_y_ || x < 0 || x + (run - 1) * shape_.stride[1] > last_x_) return false;
      const uint8_t* input = at(image, y, x);
      const int64_t step = shape_.stride[1] * input_.stride;
      for (int64_t i = 0; i < run; ++i) *inputs++ = input + i * step;
      advance(run);
      left_over -= run;
    }
    return true;
  }

  // Fills the table [taps][pixels].
  void find_all_taps() {
    const int64_t pixels = pixels_, width = shape_.kernel[1], dilation = shape_.dilation[1];
    const int64_t step = dilation * input_.stride;
    const uint8_t* const outside = outside_;
    for (int64_t p = 0; p < pixels; ++p) {
      const auto [image, row, column] = next_position_;
      const int64_t left = column * shape_.stride[1] - shape_.padding[1];
      int64_t y = row * shape_.stride[0] - shape_.padding[0];
      const uint8_t** tap = inputs_.data() + p;
      for (int64_t ky = 0; ky < shape_.kernel[0]; ++ky, y += shape_.dilation[0]) {
        const bool row_inside = 0 <= y && y < input_.height;
        const uint8_t* const input_row = at(image, row_inside ? y : 0, 0);
        // Of columns; none is inside if the row is not.
        const auto columns = static_cast<uint64_t>(row_inside ? input_.width : 0);
        int64_t x = left, offset = left * input_.stride;
        for (int64_t kx = 0; kx < width; ++kx, x += dilation, offset += step, tap += pixels) {
          *tap = static_cast<uint64_t>(x) < columns ? input_row + offset : outside;
        }
      }
      advance(1);
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
  int64_t last_y_, last_x_;  // Of a kernel's first tap, if its last one is in the image.
  int64_t next_ = 0;         // Where the next tile begins.
  Position next_position_ = {};
  int64_t pixels_ = 0;   // Of the last tile.
  bool inside_ = false;  // All its taps are in the image.
};

}  // namespace repq_fx::avx512_vnni::convolution
