"""Build script: one extension, `repq_fx._C`, from csrc/; REPQ_FX_CUDA=1 adds the CUDA sources."""

import os
from pathlib import Path

from setuptools import find_packages, setup

# One fat binary from Turing to Blackwell; overridden by the usual TORCH_CUDA_ARCH_LIST.
CUDA_ARCHITECTURES = "7.5;8.0;9.0;12.0+PTX"


def sources(*folders: str) -> list[str]:
    """Relative paths (setuptools rejects absolute ones), sorted so that builds are repeatable."""
    files = (path for folder in folders for path in Path("csrc", folder).iterdir())
    return sorted(str(path) for path in files if path.suffix in {".cpp", ".cu"})


def pip_cuda_includes() -> list[str]:
    """Headers of pip's CUDA packages, for toolkits without cuSPARSE, cuBLAS and cuSOLVER headers.

    ATen's CUDA headers include them; torch's own pip dependencies carry them.
    """
    import torch

    site_packages = Path(torch.__file__).parents[1]
    return [str(path) for path in sorted(site_packages.glob("nvidia/cu*/include"))]


def extension_options() -> dict:
    """The `setup` keywords that build the extension; none with REPQ_FX_NO_EXT=1."""
    if os.getenv("REPQ_FX_NO_EXT") == "1":
        return {}
    import torch  # Only here: metadata and REPQ_FX_NO_EXT=1 installs need no torch to build.
    from torch.utils.cpp_extension import (
        CUDA_HOME,
        BuildExtension,
        CppExtension,
        CUDAExtension,
    )

    with_cuda = os.getenv("REPQ_FX_CUDA", "1" if torch.cuda.is_available() else "0") == "1"
    if with_cuda and CUDA_HOME is None:
        raise RuntimeError(
            "REPQ_FX_CUDA=1 but no CUDA toolkit was found; set CUDA_HOME or unset REPQ_FX_CUDA."
        )
    # No contraction to fused multiply-add: kernels must equal their references to the last bit.
    # No trapping math: it changes no value, and GCC vectorizes no selection between floats with it.
    exact = ["-ffp-contract=off", "-fno-trapping-math"]
    # With OpenMP, because `at::parallel_for` is a header and silently serial without it.
    compile_args = {"cxx": ["-O3", "-std=c++20", "-fopenmp", *exact, "-Wall"]}
    if with_cuda:
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", CUDA_ARCHITECTURES)
        compile_args["nvcc"] = ["-O3", "-std=c++20", "--fmad=false"]
    extension = (CUDAExtension if with_cuda else CppExtension)(
        "repq_fx._C",
        sources(".", "cpu", "cuda") if with_cuda else sources(".", "cpu"),
        include_dirs=[str(Path("csrc").resolve()), *(pip_cuda_includes() if with_cuda else [])],
        extra_compile_args=compile_args,
        extra_link_args=["-fopenmp"],
        py_limited_api=True,
    )
    return {
        "ext_modules": [extension],
        "cmdclass": {"build_ext": BuildExtension},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


setup(packages=find_packages(include=["repq_fx", "repq_fx.*"]), **extension_options())
