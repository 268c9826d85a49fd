"""Build script: one extension, `repq_fx._C`, from csrc/.

The CUDA sources are in it where there are a GPU and a toolkit that fits torch, or with
REPQ_FX_CUDA=1.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import setuptools

# One fat binary from Turing to Blackwell; overridden by the usual TORCH_CUDA_ARCH_LIST.
CUDA_ARCHITECTURES = "7.5;8.0;9.0;12.0+PTX"
SETUPTOOLS = 77  # As in pyproject.toml.
WITHOUT_KERNELS = os.getenv("REPQ_FX_NO_EXT") == "1"


def sources(*patterns: str) -> list[str]:
    """Relative paths (setuptools rejects absolute ones), sorted so that builds are repeatable."""
    files = (path for pattern in patterns for path in Path("csrc").glob(pattern))
    return sorted(str(path) for path in files if path.suffix in {".cpp", ".cu"})


def pip_cuda_includes() -> list[str]:
    """Headers of pip's CUDA packages, for toolkits without cuSPARSE, cuBLAS and cuSOLVER headers.

    ATen's CUDA headers include them; torch's own pip dependencies carry them.
    """
    import torch

    site_packages = Path(torch.__file__).parents[1]
    return [str(path) for path in sorted(site_packages.glob("nvidia/cu*/include"))]


def is_toolkit(home: Path) -> bool:
    """Whether the compiler and the headers lie in `home`; conda has these in a folder `targets`."""
    headers = [home / "include", *home.glob("targets/*/include")]
    return (home / "bin/nvcc").is_file() and any((h / "cuda_runtime.h").is_file() for h in headers)


def obstacle_to_cuda(cuda_home: str | None) -> str | None:
    """Why nvcc could not compile kernels for this torch; None if it can."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    # torch takes any folder of a likely name for a toolkit, and images to run CUDA have it empty.
    if cuda_home is None or not is_toolkit(Path(cuda_home)):
        place = "found" if cuda_home is None else f"in {cuda_home}"
        return f"no CUDA toolkit is {place} (set CUDA_HOME)"
    nvcc = [Path(cuda_home, "bin/nvcc"), "--version"]
    printed = subprocess.run(nvcc, capture_output=True, text=True, check=False)
    release = re.search(r"release (\d+)", printed.stdout)
    if release is None or release[1] != torch.version.cuda.partition(".")[0]:
        found = f"of CUDA {release[1]}" if release else "of unknown version"
        return f"the toolkit in {cuda_home} is {found}, torch of CUDA {torch.version.cuda}"
    return None


def decide_on_cuda(cuda_home: str | None) -> tuple[bool, str]:
    """Whether CUDA kernels are built, and the line that says so."""
    import torch

    request = os.getenv("REPQ_FX_CUDA", "")
    if request not in {"", "0", "1"}:
        sys.exit(f"REPQ_FX_CUDA must be 0 or 1, got {request!r}.")
    if request == "0":
        return False, "CPU kernels only, as REPQ_FX_CUDA=0 asks."
    if not request and not torch.cuda.is_available():
        return False, "CPU kernels only: no GPU is found (REPQ_FX_CUDA=1 adds the CUDA kernels)."
    obstacle = obstacle_to_cuda(cuda_home)
    if obstacle is None:
        return True, f"CPU and CUDA kernels, by the toolkit in {cuda_home}."
    if request:
        sys.exit(f"REPQ_FX_CUDA=1, but {obstacle}.")
    return False, f"CPU kernels only: {obstacle}."


def require_tools() -> None:
    """End in one sentence where pip, which checks nothing without isolation, would print a page."""
    if int(setuptools.__version__.partition(".")[0]) < SETUPTOOLS:
        sys.exit(
            f"repq_fx needs setuptools {SETUPTOOLS} or newer to build, found "
            f"{setuptools.__version__}: pip install --upgrade setuptools wheel"
        )
    if WITHOUT_KERNELS:
        return
    if not any(map(shutil.which, (os.getenv("CXX", "c++"), "g++", "clang++"))):
        sys.exit(
            "repq_fx compiles its kernels and finds no C++ compiler: install g++ "
            "(or set REPQ_FX_NO_EXT=1: no kernels, slow)."
        )
    if importlib.util.find_spec("torch") is None:
        sys.exit(
            "repq_fx is compiled for the torch that will run it: install torch first, then "
            "`pip install --no-build-isolation .` (or set REPQ_FX_NO_EXT=1: no kernels, slow)."
        )


def extension_options() -> dict:
    """The `setup` keywords that build the extension; none with REPQ_FX_NO_EXT=1."""
    if WITHOUT_KERNELS:
        return {}
    from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

    with_cuda, decision = decide_on_cuda(CUDA_HOME)

    class Build(BuildExtension):
        def run(self) -> None:
            print(f"repq_fx: {decision}", flush=True)
            super().run()

    # No contraction to fused multiply-add: kernels must equal their references to the last bit.
    # No trapping math: it changes no value, and GCC vectorizes no selection between floats with it.
    exact = ["-ffp-contract=off", "-fno-trapping-math"]
    # Not with Python's own -g, for which the compiler takes a quarter more time and memory.
    debug = [] if "-g" in os.getenv("CFLAGS", "") else ["-g0"]
    # With OpenMP, because `at::parallel_for` is a header and silently serial without it.
    compile_args = {"cxx": ["-O3", "-std=c++20", "-fopenmp", *exact, *debug, "-Wall"]}
    if with_cuda:
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", CUDA_ARCHITECTURES)
        compile_args["nvcc"] = ["-O3", "-std=c++20", "--fmad=false"]
    extension = (CUDAExtension if with_cuda else CppExtension)(
        "repq_fx._C",
        sources("*.cpp", "common/*", "cpu/**/*", *(["cuda/*"] if with_cuda else [])),
        include_dirs=[str(Path("csrc").resolve()), *(pip_cuda_includes() if with_cuda else [])],
        extra_compile_args=compile_args,
        extra_link_args=["-fopenmp"],
        py_limited_api=True,
    )
    return {
        "ext_modules": [extension],
        "cmdclass": {"build_ext": Build},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


require_tools()
setuptools.setup(
    packages=setuptools.find_packages(include=["repq_fx", "repq_fx.*"]), **extension_options()
)
