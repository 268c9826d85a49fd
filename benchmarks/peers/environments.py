"""One virtual environment for each tool: ``python -m benchmarks.peers.environments [TOOL ...]``.

The tools contradict each other in what they require, and none of them belongs into ours.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

DEFAULT_FOLDER = Path("~/.cache/repq_fx_peers").expanduser()

# A plain torch takes 0.2 GB where pip finds a CPU build (PIP_EXTRA_INDEX_URL), else about 5 GB.
_TORCH = "torch==2.13.0"
_TORCHVISION = ("torch==2.14.1", "torchvision==0.29.1")  # Two tools import it; builds must match.

REQUIREMENTS = {
    "nncf": ("nncf==3.4.0", "openvino==2026.4.1", _TORCH),
    "mct": ("model-compression-toolkit==2.6.1", *_TORCHVISION),
    "aimet": ("aimet-torch==2.42.0", *_TORCHVISION),
    "onnxruntime": ("onnxruntime==1.31.0", "onnx==1.23.2", _TORCH),
    "torch_fx": (_TORCH, "numpy==2.4.6"),
    # Its learned round imports accelerate.
    "brevitas": ("brevitas==0.13.4", "tqdm==4.70.1", "accelerate==1.15.0", _TORCH),
    # The torch that MQBench says it supports, and an onnx of the same time.
    "mqbench": ("torch==2.5.1", "torchvision==0.20.1", "numpy==1.26.4", "onnx==1.17.0",
                "protobuf==5.29.6", "prettytable==3.18.0"),
}  # fmt: skip
# Not on PyPI: the environment variable (the tool's name in capitals) is the path of a checkout.
CHECKOUTS = {"mqbench": "github.com/ModelTC/MQBench at 00f477d58ef67c1c1bbe71d14312731fd3a4960d"}


def python_of(tool: str, folder: Path) -> Path:
    """The interpreter of a tool's environment, whether it exists or not."""
    return folder / tool / "bin" / "python"


def create(tool: str, folder: Path) -> None:
    """Make the environment anew where it is absent, and install what the table says."""
    python = python_of(tool, folder)
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / tool)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[tool]]
    subprocess.run(install, check=True)
    if tool in CHECKOUTS:
        checkout = Path(os.environ[tool.upper()]).expanduser().resolve()
        show = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = subprocess.check_output([str(python), "-c", show], text=True).strip()
        Path(packages, f"{tool}.pth").write_text(f"{checkout}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tools", nargs="*", metavar="TOOL", help=f"of {', '.join(REQUIREMENTS)}")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.tools) - REQUIREMENTS.keys())
    if unknown:
        parser.error(f"unknown tools {', '.join(unknown)}; there are {', '.join(REQUIREMENTS)}")
    failed = []
    for tool in arguments.tools or REQUIREMENTS:
        print(f"{tool}: {' '.join(REQUIREMENTS[tool])}", flush=True)
        if tool in CHECKOUTS and tool.upper() not in os.environ:
            failed.append(tool)
            print(f"{tool}: {tool.upper()} must name {CHECKOUTS[tool]}", file=sys.stderr)
            continue
        try:
            create(tool, arguments.folder)
        except subprocess.CalledProcessError as error:  # The others may still be installed.
            failed.append(tool)
            print(f"{tool}: {error}", file=sys.stderr)
    if failed:
        sys.exit(f"not installed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
