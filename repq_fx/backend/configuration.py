"""The two tables `torch.ao` wants: what the backend supports, and what the user asks for."""

import re
from functools import partial

import torch
from torch import nn

from .._torch_ao import (
    BackendConfig,
    BackendPatternConfig,
    DTypeConfig,
    ObservationType,
    QConfig,
    QConfigMapping,
    fuse_conv_bn,
)
from ..quant import ActivationObserver, Scheme, WeightObserver
from .patterns import ACTIVATION_FUNCTIONS, RANGE_PRESERVING_OPS, REQUANTIZED_OPS, SUMS
from .reference import ReferenceConv2d, ReferenceLinear

_WEIGHTED: tuple[tuple[type[nn.Module], type[nn.Module]], ...] = (
    (nn.Conv2d, ReferenceConv2d),
    (nn.Linear, ReferenceLinear),
)
_ACTIVATION_DTYPES = DTypeConfig(input_dtype=torch.quint8, output_dtype=torch.quint8)
_WEIGHTED_DTYPES = [
    DTypeConfig(torch.quint8, torch.quint8, weight_dtype, torch.float32)
    for weight_dtype in (torch.qint8, torch.int16)
]


def get_backend_config() -> BackendConfig:
    """What `prepare_fx` and `convert_fx` need to know about `repq_fx`'s layers.

    Convolutions and linear layers become our reference layers, which keep integer weights, whole
    or split into coarse and fine. Everything is described by the tables of `patterns`.

    Example:
        >>> from torch.ao.quantization.quantize_fx import prepare_fx
        >>> import repq_fx
        >>> backend = repq_fx.get_backend_config()  # prepare_fx(..., backend_config=backend)
    """
    separate = ObservationType.OUTPUT_USE_DIFFERENT_OBSERVER_AS_INPUT
    shared = ObservationType.OUTPUT_SHARE_OBSERVER_WITH_INPUT
    config = BackendConfig("repq_fx")
    config.set_backend_pattern_config(
        BackendPatternConfig((nn.Conv2d, nn.BatchNorm2d)).set_fuser_method(fuse_conv_bn)
    )
    for module, reference in _WEIGHTED:
        config.set_backend_pattern_config(
            BackendPatternConfig(module)
            .set_observation_type(separate)
            .set_dtype_configs(_WEIGHTED_DTYPES)
            .set_root_module(module)
            .set_reference_quantized_module(reference)
        )
        for activation in ACTIVATION_FUNCTIONS:
            config.set_backend_pattern_config(
                BackendPatternConfig((module, activation))
                .set_observation_type(separate)
                .set_dtype_configs(_WEIGHTED_DTYPES)
            )
    for total in SUMS:
        for activation in ACTIVATION_FUNCTIONS:
            config.set_backend_pattern_config(
                BackendPatternConfig((total, activation))
                .set_observation_type(separate)
                .set_dtype_configs([_ACTIVATION_DTYPES])
            )
    for operations, observation in ((REQUANTIZED_OPS, separate), (RANGE_PRESERVING_OPS, shared)):
        for operation in operations:
            config.set_backend_pattern_config(
                BackendPatternConfig(operation)
                .set_observation_type(observation)
                .set_dtype_configs([_ACTIVATION_DTYPES])
            )
    return config


def get_qconfig_mapping(scheme: Scheme | str) -> QConfigMapping:
    """The observers of `scheme` for every module, for `prepare_fx`.

    Stock `convert_fx` cannot clip activations below 8 bits (its `quint8` tensors ignore the grid's
    bounds) and warns there; `repq_fx.convert` is exact.
    """
    scheme = Scheme.of(scheme)
    mapping = QConfigMapping().set_global(_qconfig(scheme))
    for override in scheme.overrides:
        qconfig = None if override.scheme is None else _qconfig(override.scheme)
        if isinstance(override.target, str):
            mapping.set_module_name(override.target, qconfig)
        elif isinstance(override.target, type):
            mapping.set_object_type(override.target, qconfig)
    # Of several expressions torch takes the first that matches.
    for override in reversed(scheme.overrides):
        if isinstance(override.target, re.Pattern):
            qconfig = None if override.scheme is None else _qconfig(override.scheme)
            mapping.set_module_name_regex(_with_flags(override.target), qconfig)
    return mapping


def _with_flags(expression: re.Pattern[str]) -> str:
    """The expression as text that compiles to the same."""
    letters = {re.A: "a", re.I: "i", re.M: "m", re.S: "s", re.X: "x"}
    flags = "".join(letter for flag, letter in letters.items() if expression.flags & flag)
    end = "\n)" if "x" in flags else ")"  # A comment would swallow the parenthesis.
    return f"(?{flags}:{expression.pattern}{end}"


def _qconfig(scheme: Scheme) -> QConfig:
    return QConfig(
        activation=partial(ActivationObserver, scheme.tensor_plan()),
        weight=partial(WeightObserver, scheme.layer_plan()),
    )
