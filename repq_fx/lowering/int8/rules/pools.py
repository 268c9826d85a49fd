"""Pools: windows of pixels that become one."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import Node

from ...reference_view import ReferenceView, name_of, pair
from ..instructions import AveragePool, Flatten, MaxPool
from ..instructions.level_grid import LevelGrid
from ..rule import Match
from .sizes import window_of


def max_pool_of(view: ReferenceView, node: Node) -> MaxPool | None:
    """The instruction for a max pool, or None for one with ceiling mode or indices."""
    kernel, stride, padding = _window(view, node)
    dilation = pair(view.setting(node, 3, "dilation", 1))
    options = (view.setting(node, 4, "ceil_mode"), view.setting(node, 5, "return_indices"))
    if kernel is None or stride is None or padding is None or dilation is None or any(options):
        return None
    if min(*kernel, *stride) < 0:  # The size of the image.
        return None
    return MaxPool(kernel, stride, padding, dilation)


def match_average(
    view: ReferenceView, node: Node, levels: Node, given: LevelGrid, wanted: LevelGrid
) -> Match | None:
    """A mean over windows or whole images, of the levels of one grid to those of another."""
    if view.operation(node) in WINDOW_AVERAGES:
        kernel, stride, padding = _window(view, node)
        options = (view.setting(node, 3, "ceil_mode"), view.setting(node, 5, "divisor_override"))
        if kernel is None or stride is None or padding is None or any(options):
            return None
        counts = bool(view.setting(node, 4, "count_include_pad", True))
        pool = AveragePool(
            kernel, stride, padding, count_padding=counts, input_grid=given, output_grid=wanted
        )
        return Match(pool, (levels,), name_of(node))
    whole = Match(AveragePool(None, input_grid=given, output_grid=wanted), (levels,), name_of(node))
    if view.operation(node) in ADAPTIVE_AVERAGES:
        return whole if pair(view.setting(node, 0, "output_size")) == (1, 1) else None
    dimensions = view.setting(node, 0, "dim")
    if not isinstance(dimensions, tuple | list) or set(dimensions) not in ({2, 3}, {-1, -2}):
        return None
    keeps = view.setting(node, 1, "keepdim", False)
    return whole if keeps else Match(Flatten(), (whole,), f"{name_of(node)}_flat")


def _window(view: ReferenceView, node: Node) -> tuple[Any, Any, Any]:
    image = node.all_input_nodes[0]
    kernel = window_of(view.setting(node, 0, "kernel_size"), image)
    stride = window_of(view.setting(node, 1, "stride") or kernel, image)
    return kernel, stride, pair(view.setting(node, 2, "padding", 0))


WINDOW_AVERAGES = (nn.AvgPool2d, F.avg_pool2d)
ADAPTIVE_AVERAGES = (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d)
AVERAGES = (*WINDOW_AVERAGES, *ADAPTIVE_AVERAGES, torch.mean, "mean")
