#include "cpu/int8/avx512_vnni/target.h"

#ifdef REPQ_FX_AVX512_VNNI
#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "cpu/int8/avx512_vnni/depthwise/columns.h"
#include "cpu/int8/avx512_vnni/depthwise/packed_layer.h"
#include "cpu/int8/avx512_vnni/depthwise/tiles.h"
#include "cpu/int8/avx512_vnni/epilogue.h"
#include "cpu/int8/avx512_vnni/kernels.h"
#include "cpu/int8/image.h"
#include "cpu/int8/layer.h"

namespace repq_fx::avx512_vnni::depthwise {
namespace {

REPQ_FX_VNNI void scale_sums(const int32_t* sums, const float* scale, int64_t channels,
                             float* values) {
  for (int64_t i = 0; i < channels; ++i) values[i] = static_cast<float>(sums[i]) * scale[i];
}

// Neighbouring outputs are worked on in tiles of one size, and then in some that are smaller by
// one.
struct Tiles {
  int64_t pixels, count;
  TileKernels kernels;
};

std::array<Tiles, 2> split_into_tiles(int64_t outputs, int64_t rows, const TileKind& kind) {
  const int64_t count = (outputs + max_tile_pixels(rows) - 1) / max_tile_pixels(rows);
  const int64_t pixels = (outputs + count - 1) / count;
  const int64_t large = outputs - count * (pixels - 1);
  return {Tiles{pixels, large, tile_kernels(rows, pixels, kind)},
          Tiles{pixels - 1, count - large, tile_kernels(rows, pixels - 1, kind)}};
}

// One call's images, and where it works.
class DepthwiseRun {
 public:
  DepthwiseRun(const Layer& layer, const PackedLayer& packed, const InputImage& input,
               const LayerOutput& output)
      : layer_(layer),
        packed_(packed),
        input_(input),
        output_(output),
        only_rounds_(packed.only_rounds && output.levels != nullptr && output.addend == nullptr),
        stretch_(stretch()),
        tiles_(split_into_tiles(stretch_, packed.group.rows, kind())),
        last_tiles_(split_into_tiles((output.width - 1) % stretch_ + 1, packed.group.rows, kind())),
        columns_(layer.shape, packed.group.quads, stretch_,
                 static_cast<uint8_t>(layer.input_zero_point)) {
    for (int64_t row = 0; row < packed.group.rows; ++row) {
      centre_offsets_[row] = columns_.offsets()[layer.shape.kernel[1] / 2 * packed.group.quads +
                                                packed.group.centre(row) / quad_rows];
    }
  }

  // One block of channels of the task's rows that begin with row `y` of `image`.
  void run(int64_t image, int64_t y, int64_t index) {
    const ChannelBlock& block = packed_.blocks[index];
    const int64_t end = std::min(y + packed_.task_rows(), output_.height);
    for (; y < end; y += block.stack * packed_.group.rows) {
      const int64_t first_row = image * output_.height + y;
      if (first_row != first_row_ || block.stack != stack_) find_rows(image, y, block.stack);
      first_row_ = first_row;
      stack_ = block.stack;
      run_rows(std::min(block.stack * packed_.group.rows, end - y), index);
    }
  }

 private:
  TileKind kind() const { return {layer_.function.activation, packed_.coarse.has_value()}; }

  // The input rows that a stack of groups meets from output row `y` on.
  void find_rows(int64_t image, int64_t y, int64_t stack) {
    const ConvolutionShape& shape = layer_.shape;
    const RowGroup& group = packed_.group;
    const int64_t used = (group.rows - 1) * group.row_step + shape.kernel[0];
    rows_.clear();
    for (int64_t i = 0; i < group.quads * quad_rows; ++i) {
      for (int64_t part = 0; part < stack; ++part) {
        const int64_t top = (y + part * group.rows) * shape.stride[0] - shape.padding[0];
        // What meets no weight may be any row.
        const int64_t row = top + std::min(i, used - 1) * shape.dilation[0];
        rows_.push_back(row < 0 || row >= input_.height
                            ? row_of_zeros()
                            : input_.data +
                                  (image * input_.height + row) * input_.width * input_.stride);
      }
    }
  }

  // `rows` output rows from `first_row_` on. Inlined, this would leave too few registers.
  [[gnu::noinline]] void run_rows(int64_t rows, int64_t index) {
    const ChannelBlock& block = packed_.blocks[index];
    const int64_t pixel = first_row_ * output_.width;
    const int64_t group_bytes = packed_.group.rows * block_bytes, first = index * block_size;
    const Taps fine{columns_.data(), columns_.offsets(), packed_.taps,
                    packed_.fine.weights.data() + index * packed_.taps * group_bytes,
                    packed_.fine.start.data() + first};
    CoarseTap coarse{};
    if (packed_.coarse) {
      coarse = {columns_.data(), centre_offsets_.data(),
                packed_.coarse->weights.data() + index * group_bytes,
                packed_.coarse->start.data() + first};
    }
    const StepScales scales{packed_.scale.data() + first, packed_.bias.data() + first,
                            packed_.coarse_scale.data() + first, packed_.unit.data() + first};
    for (int64_t left = 0; left < output_.width; left += stretch_) {
      const int64_t outputs = std::min(stretch_, output_.width - left);
      columns_.fill(rows_, block.stack, block.first, input_.stride, input_.width,
                    left * layer_.shape.stride[1] - layer_.shape.padding[1], outputs);
      const auto& tiles = outputs == stretch_ ? tiles_ : last_tiles_;
      if (only_rounds_) {
        write_levels(tiles, fine, coarse, scales, pixel + left, rows, block);
      } else {
        write_finished(tiles, fine, coarse, pixel + left, rows, block);
      }
    }
  }

  // The outputs of a row whose quads are interleaved together: such that they stay in the L1 cache.
  int64_t stretch() const {
    constexpr int64_t fitting_blocks = 48;
    const ConvolutionShape& shape = layer_.shape;
    const int64_t reach = (shape.kernel[1] - 1) * shape.dilation[1];
    const int64_t fitting = (fitting_blocks / packed_.group.quads - reach) / shape.stride[1];
    const int64_t pixels = max_tile_pixels(packed_.group.rows);
    return std::min(output_.width, std::max(fitting / pixels, int64_t{1}) * pixels);
  }

  const uint8_t* row_of_zeros() {
    if (zeros_.empty()) {
      zeros_.assign(input_.width * input_.stride + read_slack,
                    static_cast<uint8_t>(layer_.input_zero_point));
    }
    return zeros_.data();
  }

  void write_levels(const std::array<Tiles, 2>& tiles, Taps fine, CoarseTap coarse,
                    const StepScales& scales, int64_t pixel, int64_t rows,
                    const ChannelBlock& block) const {
    const OutputGrid& grid = layer_.output;
    LevelRows out{.levels = output_.levels + pixel * output_.stride + block.first,
                  .stride = output_.stride,
                  .row_stride = output_.width * output_.stride,
                  .rows = rows,
                  .group_bytes = block_size / block.stack,
                  .channels = ~uint64_t{0} >> (block_size - block.channels),
                  .zero_point = static_cast<int16_t>(grid.zero_point),
                  .lowest = static_cast<uint8_t>(grid.lowest),
                  .highest = static_cast<uint8_t>(grid.highest)};
    for (const auto& [pixels, count, kernels] : tiles) {
      kernels.to_levels[block.stack > 1](fine, coarse, scales, out, count);
      fine.advance(count * pixels);
      coarse.advance(count * pixels);
      out.levels += count * pixels * out.stride;
    }
  }

  void write_finished(const std::array<Tiles, 2>& tiles, Taps fine, CoarseTap coarse, int64_t pixel,
                      int64_t rows, const ChannelBlock& block) const {
    alignas(vector_bytes) int32_t sums[max_tile_outputs * block_size];
    alignas(vector_bytes) int32_t coarse_sums[max_tile_outputs * block_size];
    for (const auto& [pixels, count, kernels] : tiles) {
      for (int64_t i = 0; i < count; ++i, pixel += pixels) {
        kernels.to_sums(fine, sums);
        fine.advance(pixels);
        if (packed_.coarse) {
          kernels.coarse_to_sums(coarse, coarse_sums);
          coarse.advance(pixels);
        }
        for (int64_t row = 0; row < rows; ++row) {
          const int64_t part = row / packed_.group.rows;
          const int64_t first =
              row % packed_.group.rows * pixels * block_size + part * (block_size / block.stack);
          finish_row(sums + first, coarse_sums + first, pixels, pixel + row * output_.width, block);
        }
      }
    }
  }

  // Neighbouring outputs of a row, from `pixel` on.
  void finish_row(const int32_t* sums, const int32_t* coarse_sums, int64_t pixels, int64_t pixel,
                  const ChannelBlock& block) const {
    float extra[max_tile_outputs * block_size];
    for (int64_t i = 0; packed_.coarse && i < pixels * block_size; i += block_size) {
      scale_sums(coarse_sums + i, layer_.coarse_scale.data() + block.first, block.channels,
                 extra + i);
    }
    const auto at = [&](auto* image, int64_t stride) {
      return image == nullptr ? nullptr : image + pixel * stride + block.first;
    };
    finish({.sums = sums,
            .extra = packed_.coarse ? extra : nullptr,
            .stride = block_size,
            .pixels = pixels,
            .channels = block.channels,
            .first_channel = block.first,
            .addend = at(output_.addend, output_.addend_stride),
            .addend_stride = output_.addend_stride,
            .levels = at(output_.levels, output_.stride),
            .values = at(output_.values, output_.stride),
            .output_stride = output_.stride},
           layer_);
  }

  const Layer& layer_;
  const PackedLayer& packed_;
  const InputImage& input_;
  const LayerOutput& output_;
  bool only_rounds_;
  int64_t stretch_;
  std::array<Tiles, 2> tiles_, last_tiles_;  // Of a stretch, and of the last one.
  QuadColumns columns_;
  std::array<int64_t, max_tile_rows> centre_offsets_{};
  std::vector<const uint8_t*> rows_;
  std::vector<uint8_t> zeros_;
  int64_t first_row_ = -1, stack_ = 0;  // Whose input rows `rows_` are.
};

class Depthwise : public LayerKernel {
 public:
  Depthwise(const LayerWeights& weights, Layer layer)
      : layer_(std::move(layer)), packed_(weights, layer_) {}

  // One block of channels of some rows.
  int64_t tasks(const InputImage& input, const LayerOutput& output) const override {
    return input.batch * image_tasks(output);
  }

  void run(const InputImage& input, const LayerOutput& output, int64_t first_task,
           int64_t last_task) const override {
    DepthwiseRun work(layer_, packed_, input, output);
    const int64_t blocks = std::ssize(packed_.blocks), rows = packed_.task_rows();
    int64_t image = first_task / image_tasks(output);
    int64_t y = first_task % image_tasks(output) / blocks * rows;
    int64_t block = first_task % blocks;
    for (int64_t task = first_task; task < last_task; ++task) {
      work.run(image, y, block);
      if (++block < blocks) continue;
      block = 0;
      y += rows;
      if (y < output.height) continue;
      y = 0;
      ++image;
    }
  }

 private:
  int64_t image_tasks(const LayerOutput& output) const {
    const int64_t rows = packed_.task_rows();
    return (output.height + rows - 1) / rows * std::ssize(packed_.blocks);
  }

  Layer layer_;
  PackedLayer packed_;
};

}  // namespace

std::unique_ptr<LayerKernel> make(const LayerWeights& weights, Layer layer) {
  return std::make_unique<Depthwise>(weights, std::move(layer));
}

}  // namespace repq_fx::avx512_vnni::depthwise
#endif
