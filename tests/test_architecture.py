"""The import rule of the package: a layer imports only itself and the layers to its left."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "repq_fx"
LAYERS = ("errors", "_version", "_atomic_file", "progress", "_torch_ao", "_C", "ops", "reparam",
          "quant", "passes", "backend", "refine", "learn", "reconstruct", "lowering", "analysis",
          "export", "api", "integrations", "cli", "__init__", "__main__")  # fmt: skip
# The training side stands beside the chain: it may import the algebra only.
TRAINING_SIDE = {"nn": {"errors", "reparam", "nn"}, "models": {"errors", "reparam", "nn", "models"}}
MAY_IMPORT_TRAINING_SIDE = {"api", "integrations", "cli", "__init__"}
# Folders with stages of their own, in the order in which these may import each other; "" stands for
# all files that no other stage names.
STAGES = {
    "quant": ("grid", "ranges", "weights", ""),
    "passes": ("graph", "tracing/sizes", "tracing", "affine", "merging", "gathering", "equalizing",
               ""),
    "backend": ("", "preparing"),
    "lowering": ("grids", "int8/instructions", "reference_view", "int8/rule", "int8/rules", "int8",
                 ""),
    "analysis": ("", "report"),
    "export": ("", "onnx_graph", "onnx_check"),
    "cli": ("", "quantizing", "quantize", "app"),
}  # fmt: skip
LARGEST_FOLDER = 16
CONFINED = {
    "torch.ao": {"_torch_ao"},
    "torch.fx": {"_torch_ao", *LAYERS[LAYERS.index("passes") :]},
    "repq_fx._C": {"ops"},
}
OPTIONAL = {"torchvision", "ultralytics", "timm", "onnx", "onnx_ir", "onnxscript", "onnxruntime",
            "openvino",
            "nncf", "matplotlib"}  # fmt: skip
# Folders of `tests/` about the library as a whole.
WHOLE_LIBRARY = {"random_networks", "whole_models", "zoo"}
FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = {".py", ".cpp", ".cu", ".h"}


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(path: Path, nodes: list[ast.AST]) -> set[str]:
    """Absolute dotted names of everything that `nodes` of the file at `path` import."""
    package = ("repq_fx", *path.relative_to(PACKAGE).parts[:-1])
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *filter(None, [node.module])))
            names |= {f"{stem}.{alias.name}" for alias in node.names}
    return names


def violations(path: Path, source: str) -> list[str]:
    layer = layer_of(path)
    tree = ast.parse(source)
    found = []
    for name in imported_modules(path, list(ast.walk(tree))):
        if name.startswith("repq_fx."):
            target = name.split(".")[1]
            if layer in TRAINING_SIDE:
                allowed = target in TRAINING_SIDE[layer]
            elif target in TRAINING_SIDE:
                allowed = layer in MAY_IMPORT_TRAINING_SIDE
            else:
                allowed = LAYERS.index(target) <= LAYERS.index(layer)
            if not allowed:
                found.append(f"{layer} may not import {name}")
        for prefix, layers in CONFINED.items():
            if (name == prefix or name.startswith(prefix + ".")) and layer not in layers:
                found.append(f"{prefix} belongs in {sorted(layers)}, not in {layer}")
    top_level = imported_modules(path, list(tree.body))
    found += [f"{n} is imported at the top" for n in top_level if n.split(".")[0] in OPTIONAL]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_left(path):
    assert violations(path, path.read_text()) == []


def stage_of(folder: str, parts: tuple[str, ...]) -> int:
    """The index of the stage that a module below `folder` belongs to, by the parts of its name."""
    name = "/".join(parts)
    ranks = [
        (len(stage), index)
        for index, stage in enumerate(STAGES[folder])
        if not stage or name == stage or name.startswith(f"{stage}/")
    ]
    return max(ranks)[1]


def stage_violations(path: Path, source: str) -> list[str]:
    """Imports of a later stage of the same folder."""
    folder = layer_of(path)
    if folder not in STAGES or path.name == "__init__.py":
        return []
    own = stage_of(folder, path.relative_to(PACKAGE / folder).with_suffix("").parts)
    return [
        f"{path.relative_to(PACKAGE)} may not import {name}"
        for name in imported_modules(path, list(ast.walk(ast.parse(source))))
        if name.startswith(f"repq_fx.{folder}.")
        and stage_of(folder, tuple(name.split(".")[2:])) > own
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_stages_of_a_folder_follow_each_other(path):
    assert stage_violations(path, path.read_text()) == []


def test_a_planted_step_back_is_found():
    source = "from ..merging.region import Region"
    assert stage_violations(PACKAGE / "passes/affine/views.py", source)
    assert not stage_violations(PACKAGE / "passes/gathering/functions.py", source)


@pytest.mark.parametrize("folder", ["repq_fx", "csrc", "benchmarks", "examples", "tests"])
def test_folders_can_be_overlooked(folder):
    files = (path for path in (ROOT / folder).rglob("*.*") if path.suffix in SOURCES)
    sizes = Counter(path.parent for path in files if path.name != "conftest.py")
    assert not {str(parent): n for parent, n in sizes.items() if n > LARGEST_FOLDER}


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("quant/grid.py", "from ..passes import trace"),
        ("ops/histogram.py", "import torch.ao.quantization"),
        ("reparam/conv_map.py", "from torch.fx import Graph"),
        ("api.py", "from . import _C"),
        ("nn/repvgg_block.py", "from ..quant import Scheme"),
        ("cli/demo.py", "import timm"),
    ],
    ids=["leftward", "torch-ao", "torch-fx", "extension", "training-side", "optional"],
)
def test_planted_violations_are_found(file, source):
    assert violations(PACKAGE / file, source)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_hold_one_idea(path):
    assert len(path.read_text().splitlines()) <= 250
    if path.name == "__init__.py":
        assert len(path.read_text().splitlines()) <= 45
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)


def test_every_kernel_has_its_op_test_and_benchmark():
    files = [*ROOT.glob("csrc/cpu/*.cpp"), *ROOT.glob("csrc/cuda/*.cu")]
    assert (ROOT / "csrc/cpu/int8/program.cpp").is_file()
    for name in {file.stem for file in files} | {"int8_program"}:
        assert (PACKAGE / "ops" / f"{name}.py").is_file()
        assert (ROOT / "tests" / "ops" / f"test_{name}.py").is_file()
        assert (ROOT / "benchmarks" / "kernels" / f"bench_{name}.py").is_file()


def instruction_words(text: str) -> list[str]:
    """What only code for one instruction set has: its intrinsics, its headers, its conditions."""
    return re.findall(r"immintrin|__m\d{3}|_mm\d*_\w+|target\(|#\s*if.*(?:AVX|x86|ARM)\w*", text)


def test_instruction_sets_stay_in_their_folders():
    assert instruction_words("#ifdef REPQ_FX_AVX512_VNNI\n__m512i a = _mm512_setzero_si512();")
    program = ROOT / "csrc/cpu/int8"
    for file in program.rglob("*.*"):
        if file.relative_to(program).parts[0] != "avx512_vnni":
            assert instruction_words(file.read_text()) == [], file


def macros_defined(file: Path) -> set[str]:
    """By a C++ file and the headers of ours that it includes."""
    text = file.read_text()
    found = set(re.findall(r"#\s*define (REPQ_FX_\w+)", text))
    for header in re.findall(r'#include "(.+)"', text):
        found |= macros_defined(ROOT / "csrc" / header)
    return found


def test_no_condition_asks_for_a_macro_that_is_never_defined():
    """Without an include the code behind it would be left out, and nobody would be told."""
    for file in (path for path in (ROOT / "csrc").rglob("*.*") if path.suffix in SOURCES):
        asked = re.findall(r"#\s*(?:if|ifdef|ifndef|elif)\b.*?(REPQ_FX_\w+)", file.read_text())
        assert set(asked) <= macros_defined(file), file


def test_tests_mirror_the_package():
    """Or the benchmarks; what is of no file stands at the top or in a folder of `WHOLE_LIBRARY`."""
    for test in (ROOT / "tests").rglob("test_*.py"):
        folder = test.relative_to(ROOT / "tests").parent
        if folder == Path() or folder.parts[0] in WHOLE_LIBRARY:
            continue
        stem = test.stem.removeprefix("test_")
        source = ROOT if folder.parts[0] == "benchmarks" else PACKAGE
        mirrored = {source / folder / f"{name}.py" for name in (stem, f"_{stem}")}
        assert any(file.is_file() for file in mirrored), f"{test} mirrors no file of {folder}"
    assert all((ROOT / "tests" / folder).is_dir() for folder in WHOLE_LIBRARY)
