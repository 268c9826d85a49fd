#!/usr/bin/env bash
# Builds the CUDA kernels in place, checks them and times them, on a machine with a GPU:
#
#   benchmarks/kernels/run_gpu.sh [build] [test] [time] [sanitize]     (all of them by default)
#
# Needs a CUDA toolkit (CUDA_HOME) and a python3 (PYTHON) with torch for it; no network. `test` and
# `sanitize` need pytest, pytest-timeout and hypothesis too. Writes gpu_kernels.json and the logs
# into $OUT, or else into benchmarks/results and build/gpu. Fails if a step does, after the others.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

python=${PYTHON:-python3}
logs=${OUT:-build/gpu}
results=${OUT:-benchmarks/results}
mkdir -p "$logs" "$results"
export PYTHONPATH=.${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
export CUDA_HOME=${CUDA_HOME:-/usr/local/cuda}
# Plugins of other packages on the machine would meet our "warnings are errors".
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
pytest=("$python" -m pytest -p pytest_timeout -o addopts=--import-mode=importlib
  -p no:cacheprovider --continue-on-collection-errors -q -m cuda)
failed=()

# step NAME COMMAND...: runs it, keeps its output, and remembers whether it failed.
step() {
  local name=$1
  shift
  echo "== $name"
  if ! "$@" 2>&1 | tee "$logs/$name.log"; then
    echo "run_gpu.sh: $name FAILED"
    failed+=("$name")
  fi
}

build() {
  TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-$(
    "$python" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())'
  )} REPQ_FX_CUDA=1 "$python" setup.py --quiet build_ext --inplace &&
    # Without the kernel every check would compare the reference with itself.
    "$python" - <<'PYTHON'
from pathlib import Path

import torch

import repq_fx.ops

has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
absent = [
    path.stem
    for path in Path("csrc/cuda").glob("*.cu")
    if Path("repq_fx/ops", f"{path.stem}.py").is_file()
    and not has_kernel(f"repq_fx::{path.stem}", "CUDA")
]
assert not absent, f"no CUDA kernels of {absent} in {repq_fx.ops.__file__}"
PYTHON
}

has_test_packages() {
  "$python" - <<'PYTHON'
from importlib.util import find_spec

absent = [name for name in ("pytest", "pytest_timeout", "hypothesis") if find_spec(name) is None]
if absent:
    raise SystemExit(f"run_gpu.sh: the tests did not run, they need {', '.join(absent)}")
PYTHON
}

run_tests() { has_test_packages && "${pytest[@]}" tests; }

# Small tensors: the tools slow kernels down up to a hundredfold. Without torch's cache each tensor
# is an allocation of its own, whose end they know.
sanitize() {
  command -v compute-sanitizer >/dev/null || {
    echo "run_gpu.sh: nothing was sanitized, compute-sanitizer is not installed"
    return 0
  }
  has_test_packages || return 1
  for tool in memcheck racecheck; do
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout 240 compute-sanitizer --tool "$tool" \
      --error-exitcode 1 "${pytest[@]}" tests/ops --timeout 0 \
      -k "matches_reference and not large and not several_chunks" || return 1
  done
}

"$python" -c 'import torch; assert torch.cuda.is_available(), "no GPU"' || exit 1
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
steps=("$@")
((${#steps[@]})) || steps=(build test time sanitize)
for name in "${steps[@]}"; do
  case $name in
    build) step build build ;;
    test) step test run_tests ;;
    time) step time "$python" benchmarks/kernels/time_gpu.py "$results/gpu_kernels.json" ;;
    sanitize) step sanitize sanitize ;;
    *)
      echo "run_gpu.sh: expected build, test, time or sanitize, got $name"
      exit 2
      ;;
  esac
done
if ((${#failed[@]})); then
  echo "run_gpu.sh: FAILED: ${failed[*]}"
  exit 1
fi
echo "run_gpu.sh: no step failed"
