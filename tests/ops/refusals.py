"""Arguments that operators refuse, each with its error and the end of the message."""

import math
from typing import Any

import torch
from torch import Tensor

Refusal = tuple[tuple[Any, ...], type[Exception], str]

X, ROW, ZERO = torch.zeros(2, 3), torch.ones(3), torch.zeros(3, dtype=torch.int32)
ONE, ONES = torch.ones(()), torch.ones(2)
LEVELS = torch.zeros(3, dtype=torch.uint8)
COUNTS, KEPT = torch.ones(8).double(), torch.tensor([2, 4])
SCALES, ZERO_POINTS = torch.ones(2).double(), torch.zeros(2, 3, dtype=torch.int64)


def state(*rows: int, bins: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Counts, exponents and zeros that `update_histogram` would take."""
    counts = torch.zeros(*rows, bins, dtype=torch.int64)
    return counts, torch.zeros(rows, dtype=torch.int64), torch.zeros(rows, dtype=torch.int64)


STATE = state()

# What every kernel can see: dtypes, shapes and numbers.
ARGUMENTS: dict[str, dict[str, Refusal]] = {
    "dequantize": {
        "int16": ((LEVELS.short(), 1.0, 0), TypeError, "uint8 or int8 input, got int16"),
        "zero_scale": ((LEVELS, 0.0, 0), ValueError, r"scale from 2\*\*-126 to 2\*\*126, got 0"),
        "negative_scale": ((LEVELS, -0.5, 0), ValueError, "got -0.5"),
        "nan_scale": ((LEVELS, math.nan, 0), ValueError, "got nan"),
        "unsigned_zero": ((LEVELS, 1.0, -1), ValueError, "zero_point from 0 to 255, got -1"),
        "signed_zero": ((LEVELS.char(), 1.0, 128), ValueError,
                        "zero_point from -128 to 127, got 128"),
    },
    "fake_quantize": {
        "double_input": ((X.double(), ROW, ZERO, 0, 7, 1), TypeError,
                         "float32, bfloat16 or float16 input, got float64"),
        "double_scale": ((X, ROW.double(), ZERO, 0, 7, 1), TypeError, "float32 scale, got float64"),
        "short_zero_point": ((X, ROW, ZERO.short(), 0, 7, 1), TypeError,
                             "int32, int64 or float32 zero_point, got int16"),
        "empty_grid": ((X, ROW, ZERO, 7, 7, 1), ValueError, "quant_min=7, quant_max=7"),
        "wide_grid": ((X, ROW, ZERO, 0, 2**24 + 1, 1), ValueError, "quant_max=16777217"),
        "axis_too_high": ((X, ROW, ZERO, 0, 7, 2), ValueError,
                          "axis of a tensor with 2 dimensions, got 2"),
        "axis_too_low": ((X, ROW, ZERO, 0, 7, -3), ValueError,
                         "axis of a tensor with 2 dimensions, got -3"),
        "scale_of_other_axis": ((X, ROW, ZERO, 0, 7, 0), ValueError,
                                r"scale of shape \[2\], got \[3\]"),
        "scale_matrix": ((X, X, ZERO, 0, 7, 1), ValueError, r"scale of shape \[3\], got \[2, 3\]"),
        "scale_without_axis": ((X, ROW, ZERO, 0, 7), ValueError,
                               r"scale of shape \[\] or \[1\], got \[3\]"),
        "zero_point_shape": ((X, ROW, ZERO[:1], 0, 7, 1), ValueError,
                             r"zero_point of shape \[3\], got \[1\]"),
        "rounding": ((X, ROW, ZERO, 0, 7, 1, 4), ValueError, "rounding from 0 to 3, got 4"),
        "negative_keep": ((X, ROW, ZERO, 0, 7, 1, 0, -0.5), ValueError,
                          "keep from 0 to 1, got -0.5"),
        "nan_keep": ((X, ROW, ZERO, 0, 7, 1, 0, math.nan), ValueError, "keep from 0 to 1, got nan"),
        "kept_and_stochastic": ((X, ROW, ZERO, 0, 7, 1, 3, 0.5), ValueError,
                                "keep=0 with stochastic rounding, got 0.5"),
    },
    "fake_quantize_backward": {
        "half_grad": ((X.half(), X, ROW, ZERO, 0, 7, 1), TypeError, "float32 grad, got float16"),
        "grad_shape": ((X[0], X, ROW, ZERO, 0, 7, 1), ValueError,
                       r"grad of shape \[2, 3\], got \[3\]"),
        "scale_shape": ((X, X, ROW, ZERO, 0, 7, 0), ValueError, r"scale of shape \[2\], got \[3\]"),
        "rounding": ((X, X, ROW, ZERO, 0, 7, 1, -1), ValueError, "rounding from 0 to 3, got -1"),
    },
    "histogram": {
        "integers": ((LEVELS.long(), 4, 0.0, 1.0), TypeError, "float32 input, got int64"),
        "no_bins": ((X, 0, 0.0, 1.0), ValueError, "bins from 1 to 16777216, got 0"),
        "too_many_bins": ((X, 2**24 + 1, 0.0, 1.0), ValueError, "got 16777217"),
        "empty_range": ((X, 4, 1.0, 1.0), ValueError, "finite lo < hi, got lo=1, hi=1"),
        "nan_range": ((X, 4, math.nan, 1.0), ValueError, "got lo=nan, hi=1"),
        "infinite_range": ((X, 4, 0.0, math.inf), ValueError, "got lo=0, hi=inf"),
        "narrow_bins": ((X, 4, 0.0, 1e-40), ValueError,
                        r"2\*\*126, got 2.5e-41 \(lo=0, hi=1e-40, bins=4\)"),
        "wide_bins": ((X, 4, 0.0, 1e39), ValueError,
                      r"2\*\*126, got 2.5e\+38 \(lo=0, hi=1e\+39, bins=4\)"),
    },
    "kl_divergences": {
        "float32": ((COUNTS.float(), KEPT, 2, "mask", "all", "last"), TypeError,
                    "float64 counts, got float32"),
        "int32": ((COUNTS, KEPT.int(), 2, "mask", "all", "last"), TypeError,
                  "int64 kept, got int32"),
        "matrix": ((COUNTS[None], KEPT, 2, "mask", "all", "last"), ValueError,
                   r"counts of one .* \[1, 8\]"),
        "scalar": ((COUNTS, KEPT[0], 2, "mask", "all", "last"), ValueError, r"kept of one .* \[\]"),
        "no_bins": ((COUNTS[:0], KEPT, 2, "mask", "all", "last"), ValueError,
                    "bins from 1 to 16777216, got 0"),
        "no_levels": ((COUNTS, KEPT, 0, "mask", "all", "last"), ValueError,
                      "levels from 1 to 16777216, got 0"),
        "divergence": ((COUNTS, KEPT, 2, "exact", "all", "last"), ValueError,
                       "reject, mask, smooth, cfws, got exact"),
        "expand": ((COUNTS, KEPT, 2, "mask", "some", "last"), ValueError,
                   "expand .* filled, all, got some"),
        "remainder": ((COUNTS, KEPT, 2, "mask", "all", "first"), ValueError,
                      "remainder .*, last, got first"),
    },
    "quantize": {
        "double": ((X.double(), 1.0, 0, 0, 255), TypeError, "float32 input, got float64"),
        "zero_scale": ((X, 0.0, 0, 0, 255), ValueError, r"scale from .* to 2\*\*126, got 0"),
        "negative_scale": ((X, -0.5, 0, 0, 255), ValueError, "got -0.5"),
        "nan_scale": ((X, math.nan, 0, 0, 255), ValueError, "got nan"),
        "infinite_scale": ((X, math.inf, 0, 0, 255), ValueError, "got inf"),
        "empty_grid": ((X, 1.0, 5, 5, 5), ValueError, "quant_min=5, quant_max=5"),
        "nine_bits": ((X, 1.0, 0, 0, 256), ValueError, "quant_min=0, quant_max=256"),
        "signed_and_wide": ((X, 1.0, 0, -1, 128), ValueError, "quant_min=-1, quant_max=128"),
        "zero_outside": ((X, 1.0, 16, 0, 15), ValueError, "zero_point from 0 to 15, got 16"),
        "rounding": ((X, 1.0, 0, 0, 15, 9), ValueError, "rounding from 0 to 3, got 9"),
    },
    "range_losses": {
        "float_counts": ((COUNTS.float(), SCALES, ZERO_POINTS, 0, 3, 1.0), TypeError,
                         "float64 counts, got float32"),
        "float_scales": ((COUNTS, SCALES.float(), ZERO_POINTS, 0, 3, 1.0), TypeError,
                         "float64 scales, got float32"),
        "int32": ((COUNTS, SCALES, ZERO_POINTS.int(), 0, 3, 1.0), TypeError,
                  "int64 zero_points, got int32"),
        "matrix": ((COUNTS[None], SCALES, ZERO_POINTS, 0, 3, 1.0), ValueError,
                   r"1 dimensions, got shape \[1, 8\]"),
        "vector": ((COUNTS, SCALES, ZERO_POINTS[0], 0, 3, 1.0), ValueError,
                   r"zero_points with 2 .* shape \[3\]"),
        "odd": ((COUNTS[1:], SCALES, ZERO_POINTS, 0, 3, 1.0), ValueError,
                "even number of counts .* got 7"),
        "no_bins": ((COUNTS[:0], SCALES, ZERO_POINTS, 0, 3, 1.0), ValueError,
                    "counts from 2 to 33554432, got 0"),
        "rows": ((COUNTS, SCALES[1:], ZERO_POINTS, 0, 3, 1.0), ValueError,
                 r"shape \[1, ...\], got \[2, 3\]"),
        "no_grid": ((COUNTS, SCALES, ZERO_POINTS, 0, 0, 1.0), ValueError,
                    "got quant_min=0, quant_max=0"),
        "no_power": ((COUNTS, SCALES, ZERO_POINTS, 0, 3, 0.0), ValueError,
                     "above 0 and up to 16, got 0"),
        "power": ((COUNTS, SCALES, ZERO_POINTS, 0, 3, 16.5), ValueError, "got 16.5"),
        "nan_power": ((COUNTS, SCALES, ZERO_POINTS, 0, 3, math.nan), ValueError, "got nan"),
    },
    "search_scale": {
        "double_rows": ((X.double(), ONES, -7, 7, 2.0), TypeError, "float32 rows, got float64"),
        "half_widest": ((X, ONES.half(), -7, 7, 2.0), TypeError, "float32 widest, got float16"),
        "float_importance": ((X, ONES, -7, 7, 2.0, X), TypeError,
                             "float64 importance, got float32"),
        "cube": ((X[None], ONES, -7, 7, 2.0), ValueError, "rows of 2 dimensions, got 3"),
        "short_widest": ((X, ONES[:1], -7, 7, 2.0), ValueError,
                         r"widest of shape \[2\], got \[1\]"),
        "importance_of_columns": ((X, ONES, -7, 7, 2.0, ROW.double()), ValueError,
                                  r"importance of shape \[2, 3\], got \[3\]"),
        "empty_grid": ((X, ONES, 7, 7, 2.0), ValueError, "quant_min=7, quant_max=7"),
        "wide_grid": ((X, ONES, 0, 2**24 + 1, 2.0), ValueError, "quant_max=16777217"),
        "zero_power": ((X, ONES, -7, 7, 0.0), ValueError, "0 < power <= 16, got 0"),
        "high_power": ((X, ONES, -7, 7, 16.5), ValueError, "0 < power <= 16, got 16.5"),
        "no_power": ((X, ONES, -7, 7, math.nan), ValueError, "0 < power <= 16, got nan"),
    },
    "soft_round": {
        "half_weight": ((X.half(), X, ROW, ZERO, 0, 7, 1), TypeError,
                        "float32 weight, got float16"),
        "half_logits": ((X, X.half(), ROW, ZERO, 0, 7, 1), TypeError,
                        "float32 logits, got float16"),
        "logits_shape": ((X, X[0], ROW, ZERO, 0, 7, 1), ValueError,
                         r"logits of shape \[2, 3\], got \[3\]"),
        "double_scale": ((X, X, ROW.double(), ZERO, 0, 7, 1), TypeError,
                         "float32 scale, got float64"),
        "empty_grid": ((X, X, ROW, ZERO, 7, 7, 1), ValueError, "quant_min=7, quant_max=7"),
        "axis": ((X, X, ROW, ZERO, 0, 7, 2), ValueError,
                 "axis of a tensor with 2 dimensions, got 2"),
        "scale_shape": ((X, X, ROW, ZERO, 0, 7, 0), ValueError, r"scale of shape \[2\], got \[3\]"),
        "low_beta": ((X, X, ROW, ZERO, 0, 7, 1, 0.5), ValueError, "beta from 1 to 1024, got 0.5"),
        "nan_beta": ((X, X, ROW, ZERO, 0, 7, 1, math.nan), ValueError,
                     "beta from 1 to 1024, got nan"),
    },
    "soft_round_backward": {
        "half_grad": ((X.half(), ONE, X, X, ROW, ZERO, 0, 7, 1), TypeError,
                      "float32 grad, got float16"),
        "grad_shape": ((X[0], ONE, X, X, ROW, ZERO, 0, 7, 1), ValueError,
                       r"grad of shape \[2, 3\], got \[3\]"),
        "regularizer_dtype": ((X, ONE.double(), X, X, ROW, ZERO, 0, 7, 1), TypeError,
                              "float32 grad_regularizer, got float64"),
        "regularizer_shape": ((X, ONE.view(1), X, X, ROW, ZERO, 0, 7, 1), ValueError,
                              r"grad_regularizer of shape \[\], got \[1\]"),
        "beta": ((X, ONE, X, X, ROW, ZERO, 0, 7, 1, 0.0), ValueError,
                 "beta from 1 to 1024, got 0"),
    },
    "update_histogram": {
        "integers": ((*STATE, X.long()), TypeError, "bfloat16 or float16 input, got int64"),
        "doubles": ((*STATE, X.double()), TypeError, "float16 input, got float64"),
        "small_counts": ((STATE[0].int(), *STATE[1:], X), TypeError, "int64 counts, got int32"),
        "float_exponents": ((STATE[0], STATE[1].float(), STATE[2], X), TypeError,
                            "int64 exponents, got float32"),
        "float_zeros": ((*STATE[:2], STATE[2].float(), X), TypeError, "int64 zeros, got float32"),
        "gaps": ((state(bins=64)[0][::2], *STATE[1:], X), ValueError,
                 r"contiguous counts, got strides \[2\]"),
        "axis": ((*state(3), X, 2), ValueError, "axis of a tensor with 2 dimensions, got 2"),
        "no_bins": ((*state(bins=0), X), ValueError,
                    r"a power of two from 8 to 16777216 bins, got counts of shape \[0\]"),
        "few_bins": ((*state(bins=4), X), ValueError, r"bins, got counts of shape \[4\]"),
        "odd_bins": ((*state(bins=24), X), ValueError, r"bins, got counts of shape \[24\]"),
        "rows": ((*state(2), X, 1), ValueError, r"counts of shape \[3, 32\], got \[2, 32\]"),
        "rows_of_exponents": ((state(3)[0], *state(1)[1:], X, 1), ValueError,
                              r"exponents of shape \[3\], got \[1\]"),
        "rows_of_zeros": ((*state(3)[:2], STATE[2], X, 1), ValueError,
                          r"zeros of shape \[3\], got \[\]"),
    },
}  # fmt: skip

_SCALE_WORDS = r"scale from 2\*\*-126 to 2\*\*126, got "
# What only a kernel that reads the tensors can see.
VALUES: dict[str, dict[str, Refusal]] = {
    "fake_quantize": {
        name: ((X, torch.tensor([1.0, value, 1.0]), ZERO, 0, 7, 1), ValueError,
               f"{_SCALE_WORDS}{shown} at index 1")
        for name, value, shown in (
            ("zero", 0.0, "0"), ("negative", -0.5, "-0.5"), ("nan", math.nan, "nan"),
            ("negative_nan", -math.nan, "nan"), ("infinite", math.inf, "inf"),
            ("denormal", 1e-40, "9.99995e-41"),
        )
    },
    "kl_divergences": {
        name: ((COUNTS, torch.tensor([2, kept]), 2, "mask", "all", "last"), ValueError,
               f"kept from 1 to 8, got {kept}")
        for name, kept in (("none", 0), ("negative", -1), ("too_many", 9))
    },
    "range_losses": {
        "zero_scale": ((COUNTS, 0 * SCALES, ZERO_POINTS, 0, 3, 1.0), ValueError,
                       "positive and finite scales, got 0"),
        "nan_scale": ((COUNTS, math.nan * SCALES, ZERO_POINTS, 0, 3, 1.0), ValueError, "got nan"),
        "infinite_scale": ((COUNTS, math.inf * SCALES, ZERO_POINTS, 0, 3, 1.0), ValueError,
                           "got inf"),
        "outside": ((COUNTS, SCALES, ZERO_POINTS + 4, 0, 3, 1.0), ValueError,
                    "zero_points from 0 to 3, got 4"),
    },
    "soft_round": {
        "negative": ((X, X, torch.tensor([1.0, 1.0, -1.0]), ZERO, 0, 7, 1), ValueError,
                     f"{_SCALE_WORDS}-1 at index 2"),
    },
}  # fmt: skip

# Of the arguments so many are on a GPU.
DEVICES: dict[str, dict[str, tuple[int, Refusal]]] = {
    "fake_quantize": {
        "scale": (1, ((X, ROW, ZERO, 0, 7, 1), ValueError, "scale on cuda:0, got cpu")),
    },
    "range_losses": {
        "counts": (1, ((COUNTS, SCALES, ZERO_POINTS, 0, 3, 1.0), ValueError,
                       "counts on cpu, got cuda:0")),
    },
    "search_scale": {
        "widest": (1, ((X, ONES, -7, 7, 2.0), ValueError, "widest on cuda:0, got cpu")),
        "importance": (2, ((X, ONES, -7, 7, 2.0, X.double()), ValueError,
                           "importance on cuda:0, got cpu")),
    },
}  # fmt: skip
