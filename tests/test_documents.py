"""What the documents name exists, and the numbers on the first page are the committed ones."""

import ast
import json
import re
from pathlib import Path

import pytest
import typer

import repq_fx
from repq_fx.cli.app import app

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md",
             *sorted((ROOT / "docs").glob("*.md"))]  # fmt: skip
FIRST_PAGE = (ROOT / "README.md").read_text()
COMMANDS = typer.main.get_command(app).commands

every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS]
)


def anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(document: Path, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


@every_document
def test_links_lead_somewhere(document):
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", document.read_text()):
        path = document.parent / target if target else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), anchor


@every_document
def test_python_is_python(document):
    for block in blocks(document, "python"):
        ast.parse(block)


@every_document
def test_names_of_the_package_are_public(document):
    names = re.findall(r"\brepq_fx\.([A-Za-z]\w*)\b", "".join(blocks(document, "python")))
    for name in names:
        assert hasattr(repq_fx, name), name


@every_document
def test_benchmarks_exist(document):
    for module in re.findall(r"python -m (benchmarks[\w.]*\w)", document.read_text()):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@every_document
def test_targets_of_make_exist(document):
    makefile = (ROOT / "Makefile").read_text()
    code = "".join(re.findall(r"`make [^`]*`|^make .*$", document.read_text(), re.MULTILINE))
    for words in re.findall(r"make ((?:[a-z-]+ ?)+)", code):
        for target in words.split():
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@every_document
def test_options_of_repq_exist(document):
    code = "".join(blocks(document)).replace("\\\n", " ")
    for name, rest in re.findall(r"^repq (\w+)(.*)$", code, re.MULTILINE):
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert set(re.findall(r"(--[\w-]+)", rest)) <= known


def test_every_folder_is_on_the_map():
    listed = set(re.findall(r"`([\w/]+)/`", (ROOT / "CONTRIBUTING.md").read_text()))
    packages = {f"repq_fx/{path.parent.name}" for path in (ROOT / "repq_fx").glob("*/__init__.py")}
    assert packages <= listed
    assert all((ROOT / name).is_dir() for name in listed if name.startswith("repq_fx/"))


def rows(file: str) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((RESULTS / file).read_text())["rows"]}


def test_the_first_table_has_the_committed_numbers():
    mobileone, detector = rows("mobileone_s0.json"), rows("yolov9t_coco128_1t.json")
    peers = json.loads((RESULTS / "peers.json").read_text())["networks"]["mobileone_s0"]["rows"]
    nncf = [row["fields"] for row in peers if row["tool"] == "nncf" and row["width"] == "W8A8"]
    classified = {
        "FP32": mobileone["FP32, merged"],
        "min-max": mobileone["per-tensor min-max W8A8"],
        "OpenVINO": max(nncf, key=lambda fields: fields["top1_percent"]),
        "repq_fx": mobileone["repq_fx W8A8"],
    }
    precision = {
        "FP32": "FP32, merged", "min-max": "INT8, repq_fx, W8A8, min-max per tensor",
        "OpenVINO": "INT8, OpenVINO", "repq_fx": "INT8, repq_fx, W8A8",
    }  # fmt: skip
    timed = {
        "FP32": ("FP32, torch", "FP32, OpenVINO"), "min-max": ("INT8, repq_fx, nothing split",),
        "OpenVINO": ("INT8, OpenVINO",), "repq_fx": ("INT8, repq_fx",),
    }  # fmt: skip
    latencies = [rows(f"int8_latency_{name}_1t_b1.json") for name in ("mobileone_s0", "yolov9t")]
    expected = [
        [
            f"{row['top1_percent']:.1f}",
            "-" if row["agreement_percent"] is None else f"{row['agreement_percent']:.1f}",
            " / ".join(f"{latencies[0][key]['latency_ms']['median']:.1f}" for key in timed[name]),
            f"{detector[precision[name]]['map50_95']:.1f}",
            " / ".join(f"{latencies[1][key]['latency_ms']['median']:.1f}" for key in timed[name]),
        ]
        for name, row in classified.items()
    ]
    table = FIRST_PAGE[FIRST_PAGE.index("| | MobileOne-S0") :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip(" *") for cell in line.strip("|").split("|")][1:] for line in table]
    assert cells == expected
