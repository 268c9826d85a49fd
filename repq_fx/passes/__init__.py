"""Graph rewrites: tracing a model, finding its linear regions and merging them."""

from .equalizing.bias_absorption import absorb_high_biases as absorb_high_biases
from .equalizing.equalize import equalize as equalize
from .graph.example import ExampleInputs as ExampleInputs
from .graph.example import as_inputs as as_inputs
from .merging.region import Region as Region
from .pipeline import find_regions as find_regions
from .pipeline import merge_graph as merge_graph
from .pipeline import merge_with_report as merge_with_report
from .pipeline import reparameterize as reparameterize
from .single_precision import in_single_precision as in_single_precision
from .single_precision import inputs_in_single_precision as inputs_in_single_precision
from .small_example import required_inputs as required_inputs
from .small_example import small_example as small_example
from .tracing.plain_layers import Leaves as Leaves
from .tracing.trace import trace as trace
