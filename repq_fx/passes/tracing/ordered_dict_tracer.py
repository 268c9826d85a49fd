"""A tracer that records what torch's loses: that a dictionary is an ordered one."""

from collections import OrderedDict
from typing import Any

from torch import fx
from torch.fx.node import Argument


class OrderedDictTracer(fx.Tracer):
    """torch's tracer, but for an `OrderedDict`, which stays one by a call of its class.

    Graphs name it as theirs, because unpickling a graph module traces its code once more.
    """

    def create_arg(self, a: Any) -> Argument:
        """What stands in the graph for an argument."""
        if type(a) is OrderedDict:
            return self.create_node("call_function", OrderedDict, (self.create_arg(dict(a)),), {})
        return super().create_arg(a)
