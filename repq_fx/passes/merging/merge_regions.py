"""Replace every linear region of a graph by one convolution."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter

from torch import nn
from torch.fx import GraphModule, Node

from ..affine.value import AffineValue, Source
from ..affine.views import Features, affine_values, features_of
from ..graph.constants import fold_constants
from ..graph.example import Inputs
from ..graph.remove_unused import remove_unused
from .plan_regions import plan_regions
from .region import Candidate, Region, RegionNames, preferred_name
from .replacement import Replacement, verify_regions
from .sums import gather_sums, split_sums

_LOGGER = logging.getLogger(__name__)


def merge_regions(
    graph_module: GraphModule, inputs: Inputs, features: Features | None = None
) -> list[Region]:
    """Merge all regions that can be merged, in place.

    Modules are never edited: each region gets a new layer, and modules that nothing calls any more
    are removed. A convolution with its batch normalization keeps its qualified name; the sum of
    several branches is named ``reparam_conv`` in the module that holds all of them.

    Args:
        graph_module: A graph in evaluation mode that the caller owns.
        inputs: An example, on which each region is verified.
        features: What is known about the graph already; found out on the example by default.

    Returns:
        The merged and the refused regions, in graph order.
    """
    remove_unused(graph_module)  # A dead reader of a value would keep it from being merged.
    features = features or features_of(graph_module, inputs)
    values = affine_values(features)
    while split_sums(features, values) or gather_sums(features, values):
        values = affine_values(features)
    planned, replacements = _verified_plan(features, values, inputs)
    regions = {candidate: _describe(graph_module, candidate) for candidate in planned}
    regions |= _rewrite(graph_module, replacements, regions)
    fold_constants(graph_module)
    remove_unused(graph_module)
    _LOGGER.info(
        "Merged %d regions, refused %d.", len(replacements), len(regions) - len(replacements)
    )
    return list(regions.values())


def _verified_plan(
    features: Features, values: Mapping[Node, AffineValue], inputs: Inputs
) -> tuple[list[Candidate], dict[Candidate, Replacement]]:
    """Plan until every accepted region agrees with its layer on the example."""
    failures: dict[tuple[Node, Source], str] = {}
    verified: dict[tuple[Node, Source], Replacement] = {}
    while True:
        planned = plan_regions(features, values, failures)
        accepted = {(c.root, c.source): c for c in planned if c.reason is None}
        new = [candidate for key, candidate in accepted.items() if key not in verified]
        verdicts = verify_regions(features, new, inputs) if new else {}
        for candidate, verdict in verdicts.items():
            if isinstance(verdict, Replacement):
                verified[candidate.root, candidate.source] = verdict
            else:
                failures[candidate.root, candidate.source] = verdict
        if accepted.keys() <= verified.keys():
            return planned, {candidate: verified[key] for key, candidate in accepted.items()}


def _describe(graph_module: GraphModule, candidate: Candidate) -> Region:
    read = [attrgetter(target)(graph_module) for target in candidate.targets]
    owned = nn.ModuleList(value for value in read if isinstance(value, nn.Module)).parameters()
    tensors = (value for value in read if isinstance(value, nn.Parameter))
    parameters = sum(parameter.numel() for parameter in {*owned, *tensors})
    before = candidate.before.multiply_adds
    return Region(
        name=preferred_name(candidate),
        source=candidate.source.node.name,
        root=candidate.root.name,
        nodes=tuple(node.name for node in candidate.interior),
        branches=candidate.branches,
        convs=len(candidate.weights),
        reason=candidate.reason,
        parameters_before=parameters,
        parameters_after=parameters,
        multiply_adds_before=before,
        multiply_adds_after=before if candidate.reason else candidate.after.multiply_adds,
    )


def _rewrite(
    graph_module: GraphModule,
    replacements: Mapping[Candidate, Replacement],
    regions: Mapping[Candidate, Region],
) -> dict[Candidate, Region]:
    """Put each layer in the place of its region; the regions with their final names."""
    if not replacements:
        return {}
    names = RegionNames(graph_module, replacements)
    replaced: dict[Node, Node] = {}
    renamed: dict[Candidate, Region] = {}
    for candidate in (candidate for candidate in regions if candidate in replacements):
        replacement = replacements[candidate]
        name, is_new = names.name(candidate, replacement.layer)
        if is_new:
            graph_module.add_submodule(name, replacement.layer)
        source = replaced.get(candidate.source.node, candidate.source.node)
        with graph_module.graph.inserting_before(candidate.root):
            result = replacement.insert(graph_module, name, source)
        result.meta = dict(candidate.root.meta)
        replaced[candidate.root] = result
        _erase(candidate, result)
        after = sum(parameter.numel() for parameter in replacement.layer.parameters())
        renamed[candidate] = replace(regions[candidate], name=name, parameters_after=after)
    return renamed


def _erase(candidate: Candidate, result: Node) -> None:
    """Put `result` in the place of a region, and erase the region and what only it read."""
    candidate.root.replace_all_uses_with(result)
    graph, erased = result.graph, set[Node]()
    pending = list(candidate.interior)
    while pending:
        node = pending.pop()
        # What a region reads may be computed from constants, in several steps.
        if node.op != "placeholder" and not node.users and node not in erased:
            pending += node.all_input_nodes
            graph.erase_node(node)
            erased.add(node)
