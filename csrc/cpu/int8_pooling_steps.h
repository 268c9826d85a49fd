// Steps that reduce windows of pixels to one.
#pragma once
#include "cpu/int8_settings.h"
#include "cpu/int8_step.h"

namespace repq_fx {

class MaxPoolStep : public Step {
 public:
  MaxPoolStep(int64_t input, const std::vector<int64_t>& kernel, const std::vector<int64_t>& stride,
              const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation)
      : Step({input}),
        k(pair_of(kernel)),
        s(pair_of(stride)),
        p(pair_of(padding)),
        d(pair_of(dilation)) {}
  ValueType infer(const std::vector<ValueType>& types) const override {
    require_image("max_pool", types[0]);
    const auto out = [&](int a) {
      return (types[0].sizes[2 + a] + 2 * p[a] - d[a] * (k[a] - 1) - 1) / s[a] + 1;
    };
    return types[0].with_pixels(out(0), out(1));
  }
  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage in = operands[0].input();
    const OutputImage out = result.output();
    for (int64_t n = 0; n < out.batch; ++n)
      for (int64_t y = 0; y < out.height; ++y)
        for (int64_t x = 0; x < out.width; ++x)
          for (int64_t c = 0; c < out.channels; ++c) {
            uint8_t m = 0;
            for (int64_t i = 0; i < k[0]; ++i)
              for (int64_t j = 0; j < k[1]; ++j) {
                const int64_t yy = y * s[0] - p[0] + i * d[0], xx = x * s[1] - p[1] + j * d[1];
                if (yy < 0 || yy >= in.height || xx < 0 || xx >= in.width) continue;
                m = std::max(m, in.data[((n * in.height + yy) * in.width + xx) * in.stride + c]);
              }
            out.data[((n * out.height + y) * out.width + x) * out.stride + c] = m;
          }
  }

 private:
  std::array<int64_t, 2> k, s, p, d;
};

class AveragePoolStep : public Step {
 public:
  AveragePoolStep(int64_t input, const std::optional<std::vector<int64_t>>& kernel,
                  const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                  bool count, const GridArgument& in, const GridArgument& out)
      : Step({input}),
        s(pair_of(stride)),
        p(pair_of(padding)),
        count(count),
        grid(in),
        epilogue(epilogue_of("none", 0, out)) {
    if (kernel) k = pair_of(*kernel);
  }
  ValueType infer(const std::vector<ValueType>& types) const override {
    require_image("average_pool", types[0]);
    if (!k) return types[0].with_pixels(1, 1);
    const auto out = [&](int a) { return (types[0].sizes[2 + a] + 2 * p[a] - (*k)[a]) / s[a] + 1; };
    return types[0].with_pixels(out(0), out(1));
  }
  void run(const std::vector<Operand>& operands, const Operand& result) const override {
    const InputImage in = operands[0].input();
    const OutputImage out = result.output();
    const std::array<int64_t, 2> kk = k.value_or(std::array<int64_t, 2>{in.height, in.width});
    const auto zero = static_cast<int64_t>(std::get<1>(grid));
    for (int64_t n = 0; n < out.batch; ++n)
      for (int64_t y = 0; y < out.height; ++y)
        for (int64_t x = 0; x < out.width; ++x) {
          const int64_t y0 = y * s[0] - p[0], x0 = x * s[1] - p[1];
          const int64_t y1 = std::min(y0 + kk[0], in.height + p[0]),
                        x1 = std::min(x0 + kk[1], in.width + p[1]);
          const int64_t ya = std::max<int64_t>(y0, 0), xa = std::max<int64_t>(x0, 0),
                        yb = std::min(y1, in.height), xb = std::min(x1, in.width);
          const int64_t inside = (yb - ya) * (xb - xa),
                        divisor = count ? (y1 - y0) * (x1 - x0) : inside;
          for (int64_t c = 0; c < out.channels; ++c) {
            int64_t sum = -zero * inside;
            for (int64_t i = ya; i < yb; ++i)
              for (int64_t j = xa; j < xb; ++j)
                sum += in.data[((n * in.height + i) * in.width + j) * in.stride + c];
            out.data[((n * out.height + y) * out.width + x) * out.stride + c] =
                portable::to_level(static_cast<float>(sum) / static_cast<float>(divisor) *
                                       static_cast<float>(std::get<0>(grid)),
                                   epilogue);
          }
        }
  }

 private:
  std::optional<std::array<int64_t, 2>> k;
  std::array<int64_t, 2> s, p;
  bool count;
  GridArgument grid;
  Epilogue epilogue;
};

}  // namespace repq_fx
