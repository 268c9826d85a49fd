# Two commands on a fresh machine: `make demo` and `make test`.
# TORCH="torch==2.13.0" takes a CPU-only torch, without torchvision.
TORCH ?= torch==2.14.1 torchvision==0.29.1
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test test-slow lint format bench accuracy clean

# Rebuilt when the packaging or any kernel changes.
$(INSTALLED): pyproject.toml setup.py $(wildcard csrc/*.cpp csrc/*/*)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[dev,timm]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/repq demo

# Each worker has one thread: two that wait for each other's are slower than one.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(wildcard csrc/*.cpp csrc/*/*)

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(wildcard csrc/*.cpp csrc/*/*)

bench: $(INSTALLED)
	$(BIN)/python -m pytest benchmarks/kernels -o python_files='bench_*.py' --benchmark-enable --benchmark-only

accuracy: $(INSTALLED)
	$(BIN)/python -m benchmarks.accuracy.cifar10
	$(BIN)/python -m benchmarks.accuracy.mobileone

clean:
	rm -rf .venv build *.egg-info repq_fx/*.so
