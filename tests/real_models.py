"""Helpers for tests on whole third-party models."""

import copy
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx import GraphModule

from repq_fx import reparameterize
from repq_fx.passes.graph.example import relative_error

TOLERANCE = 1e-4
"""Largest difference to the training form over its largest magnitude, in float32."""

_LAYER_SCALES = ("gamma", "layer_scale", "alpha")
_GATES = ("fc1", "fc2", "conv_reduce", "conv_expand")
_CONVOLUTIONS = {F.conv2d, torch.conv2d, torch.ops.aten.conv2d.default}
_BATCH_NORMS = {F.batch_norm, torch.batch_norm, torch.ops.aten.batch_norm.default}


@dataclass(frozen=True)
class Merged:
    """A model before and after `reparameterize`, with the largest relative error of its outputs."""

    model: nn.Module
    result: GraphModule
    error: float


def data_folder() -> Path:
    """The folder of real images and weights; skips the test where there is none."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("REPQ_FX_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent (REPQ_FX_DATA names another folder)")
    return folder


def data_file(name: str) -> Path:
    """A file below `data_folder`; skips the test where it is absent."""
    path = data_folder() / name
    if not path.exists():
        pytest.skip(f"no real data: {path} is absent")
    return path


def randomize(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Make every branch of a fresh model count, and keep the activations of deep models finite.

    The affine maps are random and a quarter of them negative; their biases are positive, because a
    random deep model that is mostly zero behind its ReLUs amplifies rounding tenfold. One forward
    of random images of `shape` gives each batch norm the statistics of its own input, off by random
    factors.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Fresh layer scales are 1e-5 or so and would hide the branch.
            if any(part in name.rpartition(".")[2] for part in _LAYER_SCALES):
                parameter.uniform_(0.5, 1.0)
        for name, module in model.named_modules():
            # Gates that open for one image and close for the next make a fresh model chaotic.
            if name.rpartition(".")[2] in _GATES and isinstance(module, nn.Conv2d):
                module.weight *= 0.1
        hooks = [
            module.register_forward_pre_hook(_randomize_batch_norm)
            for module in model.eval().modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
        ]
        model(torch.randn(shape))
    for hook in hooks:
        hook.remove()
    return model


def _randomize_batch_norm(norm: nn.Module, args: tuple[Tensor]) -> None:
    features = args[0].transpose(0, 1).flatten(1)
    variance, mean = torch.var_mean(features, dim=1)
    if norm.affine:
        norm.weight.uniform_(0.5, 1.5)
        norm.weight[torch.rand_like(norm.weight) < 0.25] *= -1
        norm.bias.uniform_(0.0, 1.0)
    norm.running_mean.copy_(mean + variance.sqrt() * torch.empty_like(mean).uniform_(-0.3, 0.3))
    # A channel that is dead on these images would explode on others.
    variance.clamp_(min=float(variance.median()) / 4)
    norm.running_var.copy_(variance * torch.empty_like(mean).uniform_(1.0, 3.0))


def merge(model: nn.Module, image: Tensor, *more: Tensor) -> Merged:
    """Merge `model` on `image`, compare on it, on another one like it and on `more`.

    Also checks that the model stays bit-identical, and that the result has fewer parameters.
    """
    before = copy.deepcopy(model.state_dict())
    result = reparameterize(model, image)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module.training for module in model.modules())
    error = 0.0
    with torch.no_grad():
        for sample in (image, torch.randn_like(image), *more):
            # Some models cache what depends on the image size, so the reference is a copy.
            expected = tensors(copy.deepcopy(model)(sample))
            actual = tensors(result(sample))
            assert len(expected) == len(actual) > 0
            assert all(bool(tensor.isfinite().all()) for tensor in expected)
            errors = [relative_error(e, a) for e, a in zip(expected, actual, strict=True)]
            error = max(error, *errors)
    assert parameter_count(result) <= parameter_count(model)
    return Merged(model, result, error)


def tensors(output: object) -> list[Tensor]:
    """All tensors of a nested output, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        return [tensor for value in output.values() for tensor in tensors(value)]
    if isinstance(output, tuple | list):
        return [tensor for value in output for tensor in tensors(value)]
    return []


def parameter_count(model: nn.Module) -> int:
    """How many numbers are trained or stored as parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def unused_tensors(result: GraphModule) -> list[str]:
    """Parameters and buffers that nothing in the graph reads."""
    used = {str(node.target) for node in result.graph.nodes if node.op == "get_attr"}
    called = tuple(f"{n.target}." for n in result.graph.nodes if n.op == "call_module")
    names = [name for name, _ in (*result.named_parameters(), *result.named_buffers())]
    return [name for name in names if name not in used and not name.startswith(called)]


def conv_count(model: nn.Module) -> int:
    """Convolutions that a forward pass calls, or in a plain module, that it holds."""
    if isinstance(model, GraphModule):
        return sum(_is_conv(model, node) for node in model.graph.nodes)
    return sum(isinstance(module, nn.Conv2d) for module in model.modules())


def norms_behind_convs(result: GraphModule) -> list[str]:
    """Batch norms that alone read a convolution, so that they should be part of it."""
    return [
        node.name
        for node in result.graph.nodes
        if _is_batch_norm(result, node)
        and _is_conv(result, node.args[0])
        and len(node.args[0].users) == 1
    ]


def _is_conv(result: GraphModule, node: fx.Node) -> bool:
    return _calls(result, node, nn.Conv2d) or node.target in _CONVOLUTIONS


def _is_batch_norm(result: GraphModule, node: fx.Node) -> bool:
    return _calls(result, node, nn.BatchNorm2d) or node.target in _BATCH_NORMS


def _calls(result: GraphModule, node: fx.Node, kind: type[nn.Module]) -> bool:
    return node.op == "call_module" and isinstance(result.get_submodule(node.target), kind)
