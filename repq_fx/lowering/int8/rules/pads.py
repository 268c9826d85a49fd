"""Padding of images by one value."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import Node

from ...reference_view import ReferenceView, name_of
from ..instructions import LevelGrid, Pad
from ..rule import Match

PADS = (F.pad, nn.ZeroPad2d, nn.ConstantPad2d)


def match_pad(
    view: ReferenceView, node: Node, levels: "Match | Node", wanted: LevelGrid
) -> Match | None:
    """Padding on four sides, or fewer, of levels of the grid `wanted`."""
    padding = view.setting(node, 0, "padding" if node.op == "call_module" else "pad")
    if view.setting(node, 1, "mode", "constant") != "constant" or isinstance(padding, Node):
        return None
    sides = [padding] * 4 if isinstance(padding, int) else list(padding)
    sides += [0] * (4 - len(sides))
    value = view.setting(node, 2, "value", 0.0)
    value = 0.0 if value is None else value
    if any(not isinstance(side, int) or side < 0 for side in sides) or isinstance(value, Node):
        return None
    if any(sides[4:]):
        return None
    level = int(wanted.quantize(torch.tensor(float(value))))
    left, right, top, bottom = sides[:4]
    return Match(Pad((left, right, top, bottom), level), (levels,), name_of(node))
