"""From a prepared graph to the reference graph, and from that to integer instructions."""

from .backends import LOWERINGS as LOWERINGS
from .backends import Backend as Backend
from .backends import as_backend as as_backend
from .reference_graph import to_reference as to_reference
