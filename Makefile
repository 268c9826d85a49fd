# Two commands on a fresh machine: `make demo` and `make test`.
# TORCH="torch==2.14.1 torchvision==0.29.1 --index-url https://download.pytorch.org/whl/cpu" takes a
# torch without CUDA.
TORCH ?= torch==2.14.1 torchvision==0.29.1
PYTHON ?= python3
# Tested against, without what they only need for training; `dev` has the rest.
DETECTORS := yolov6detect==0.4.1 yolov7detect==1.0.1
BIN := .venv/bin
INSTALLED := .venv/installed
KERNEL_FILES := $(shell find csrc -name "*.h" -o -name "*.cpp" -o -name "*.cu")
PIP = $(BIN)/python -m pip install --quiet

# The CPU kernels with the address and undefined-behaviour sanitizers of GCC, apart from the others.
# Python itself is not built with them: the runtime is preloaded, and its leaks are not ours.
SANITIZE := -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all \
	-fno-omit-frame-pointer -g1 -D_GLIBCXX_ASSERTIONS
SANITIZER_RUNTIME = $(shell g++ -print-file-name=libasan.so) $(shell g++ -print-file-name=libstdc++.so)

.PHONY: demo test test-slow asan fuzz lint format bench accuracy clean

# Rebuilt when the packaging or any kernel changes.
# setuptools warns of every editable installation, at length, and pip shows it.
# torch compiles on all cores where ninja is on the path, else one file after another.
$(INSTALLED): pyproject.toml setup.py $(KERNEL_FILES)
	@echo "Installs into .venv, once; with torch for CUDA and all that tests need, 6 GB of disk."
	@echo "1/4 a virtual environment"
	@$(PYTHON) -m venv .venv && date +%s > .venv/start
	@$(PIP) --upgrade pip "setuptools>=77" wheel ninja
	@echo "2/4 $(TORCH): some GB to download"
	@$(PIP) $(TORCH)
	@echo "3/4 this package: 1.5 minutes of one core to compile the kernels, divided by the cores"
	@PATH="$(abspath $(BIN)):$$PATH" PYTHONWARNINGS=ignore $(PIP) --no-build-isolation --editable ".[dev,timm,ultralytics]"
	@echo "4/4 detectors for the tests"
	@$(PIP) --no-deps $(DETECTORS)
	@$(BIN)/repq --version
	@echo "Installed in $$(( $$(date +%s) - $$(cat .venv/start) )) seconds."
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/repq demo

# Each worker has one thread: two that wait for each other's are slower than one.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

# Several minutes, most of them compiling. Two threads, so that the parallel loops are what runs.
asan: $(INSTALLED)
	CFLAGS="$(SANITIZE)" LDFLAGS="$(SANITIZE)" REPQ_FX_CUDA=0 $(BIN)/python setup.py --quiet \
		build --build-base build/asan-objects --build-lib build/asan
	cd build/asan && LD_PRELOAD="$(SANITIZER_RUNTIME)" ASAN_OPTIONS=detect_leaks=0 \
		UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=2 PYTHONPATH=. \
		$(abspath $(BIN))/python -m pytest -c $(CURDIR)/pyproject.toml --rootdir $(CURDIR) \
		$(CURDIR)/tests/ops $(CURDIR)/tests/lowering/int8/instructions $(CURDIR)/tests/test_fuzz.py

# Damaged model files, about ten minutes; those that do harm are left in build/fuzz.
fuzz: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --mutations 20000

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(KERNEL_FILES)

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(KERNEL_FILES)

bench: $(INSTALLED)
	$(BIN)/python -m pytest benchmarks/kernels -o python_files='bench_*.py' --benchmark-enable --benchmark-only \
		--benchmark-json benchmarks/results/kernels.json

accuracy: $(INSTALLED)
	$(BIN)/python -m benchmarks.accuracy.cifar10
	$(BIN)/python -m benchmarks.accuracy.mobileone

clean:
	rm -rf .venv build *.egg-info repq_fx/*.so
