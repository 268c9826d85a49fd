"""Replace every linear region of a graph by one convolution."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import attrgetter

from torch import Tensor, nn
from torch.fx import GraphModule, Node

from .affine_views import feature_shapes
from .plan_regions import plan_regions
from .region import Candidate, Region
from .region_names import RegionNames, preferred_name, read_targets
from .verify_regions import verify_regions


def merge_regions(graph_module: GraphModule, inputs: tuple[Tensor, ...]) -> list[Region]:
    """Merge all regions that can be merged, in place.

    Modules are never edited: each region gets a new convolution, and modules that nothing calls any
    more are removed. A convolution with its batch normalization keeps its qualified name; the sum
    of several branches is named ``reparam_conv`` in the module that holds all of them.

    Args:
        graph_module: A graph in evaluation mode that the caller owns.
        inputs: An example, on which each region is verified.

    Returns:
        The merged and the refused regions, in graph order.
    """
    shapes = feature_shapes(graph_module, inputs)
    planned = plan_regions(graph_module, shapes)
    accepted = [candidate for candidate in planned if candidate.reason is None]
    verdicts = verify_regions(graph_module, shapes, accepted, inputs)
    convs = {c: verdict for c, verdict in verdicts.items() if isinstance(verdict, nn.Conv2d)}
    failures = {c: verdict for c, verdict in verdicts.items() if isinstance(verdict, str)}
    regions = {
        candidate: _describe(graph_module, candidate, failures.get(candidate, candidate.reason))
        for candidate in planned
    }
    regions |= _rewrite(graph_module, convs, regions)
    return list(regions.values())


def _describe(graph_module: GraphModule, candidate: Candidate, reason: str | None) -> Region:
    read = [attrgetter(target)(graph_module) for target in read_targets(candidate)]
    owned = nn.ModuleList(value for value in read if isinstance(value, nn.Module)).parameters()
    tensors = (value for value in read if isinstance(value, nn.Parameter))
    parameters = sum(parameter.numel() for parameter in {*owned, *tensors})
    return Region(
        name=preferred_name(candidate),
        source=candidate.source.name,
        root=candidate.root.name,
        nodes=tuple(node.name for node in candidate.interior),
        branches=candidate.branches,
        convs=len(candidate.convs),
        reason=reason,
        parameters_before=parameters,
        parameters_after=parameters,
    )


def _rewrite(
    graph_module: GraphModule,
    convs: Mapping[Candidate, nn.Conv2d],
    regions: Mapping[Candidate, Region],
) -> dict[Candidate, Region]:
    """Put each convolution in the place of its region; the regions with their final names."""
    if not convs:
        return {}
    names = RegionNames(graph_module, convs)
    replacements: dict[Node, Node] = {}
    renamed: dict[Candidate, Region] = {}
    for candidate in (candidate for candidate in regions if candidate in convs):
        conv = convs[candidate]
        name, is_new = names.name(candidate, conv)
        if is_new:
            graph_module.add_submodule(name, conv)
        source = replacements.get(candidate.source, candidate.source)
        replacements[candidate.root] = _replace(graph_module, candidate, name, source)
        after = sum(parameter.numel() for parameter in conv.parameters())
        renamed[candidate] = replace(regions[candidate], name=name, parameters_after=after)
    graph_module.delete_all_unused_submodules()
    graph_module.graph.lint()
    graph_module.recompile()
    return renamed


def _replace(graph_module: GraphModule, candidate: Candidate, name: str, source: Node) -> Node:
    graph = graph_module.graph
    with graph.inserting_after(candidate.root):
        call = graph.call_module(name, (source,))
    call.meta = dict(candidate.root.meta)
    candidate.root.replace_all_uses_with(call)
    constants = [n for node in candidate.interior for n in node.all_input_nodes if _is_constant(n)]
    for node in reversed(candidate.interior):
        graph.erase_node(node)
    _erase_unused(graph_module, constants)
    return call


def _erase_unused(graph_module: GraphModule, constants: Iterable[Node]) -> None:
    for node in dict.fromkeys(constants):
        if not node.users:
            graph_module.graph.erase_node(node)


def _is_constant(node: Node) -> bool:
    return node.op == "get_attr"
