# kvtier: `make help` lists the targets. Everything lives in .venv and build/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
PROFILE ?= profiles/quickstart.yaml
JOBS ?= 2

NATIVE_SOURCES := $(shell find csrc -name '*.cc' -o -name '*.h' -o -name CMakeLists.txt) CMakeLists.txt
CPP_FILES := $(shell find csrc tests -name '*.cc' -o -name '*.h')

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit("kvtier needs Python 3.11 or newer, not " + sys.version.split()[0] + "; say make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	touch $@

# torch is pinned here, so that a plain `make` takes one known build.
$(VENV)/.torch: $(VENV)/.python
	$(BIN)/pip install --quiet $(TORCH)
	touch $@

$(VENV)/.tools: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet 'scikit-build-core>=0.11' 'pybind11>=3.0' 'cmake>=3.22' ninja
	touch $@

# Catch2's one header, for the C++ tests; CMake looks here and among Debian's packages.
$(VENV)/.catch2: $(VENV)/.python
	$(BIN)/pip install --quiet --no-deps --only-binary=:all: --python-version 3.12 --upgrade --target $(VENV)/catch2 comma-deps-catch2==2.13.10.post96
	touch $@

$(VENV)/.installed: $(VENV)/.tools $(NATIVE_SOURCES)
	$(BIN)/pip install --quiet --no-build-isolation -e '.[test,lint,bench]'
	touch $@

.PHONY: build
build: $(VENV)/.installed ## Set up .venv and build the native modules

.PHONY: serve
serve: build ## Serve the quickstart model (PROFILE=file for another profile)
	@exec $(BIN)/kvtier launch $(PROFILE)

.PHONY: test
test: build test-cpp ## Run the whole test suite (bounded soak, fuzz and kill tests)
	$(BIN)/pytest -m 'host and not slow' tests/ops
	$(BIN)/pytest -m 'not slow and not gpu and not host' -n $(JOBS) --dist loadfile

# $(1): folder below build/; $(2): sanitizers, if any.
define cpp_tests
	$(BIN)/cmake -S . -B build/$(1) -G Ninja -DKVTIER_PYTHON=OFF -DKVTIER_TESTS=ON -DKVTIER_SANITIZE='$(2)' -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) >/dev/null
	$(BIN)/cmake --build build/$(1) -j $(JOBS) --target store_test
	$(BIN)/ctest --test-dir build/$(1) --output-on-failure --no-tests=error
endef

.PHONY: test-cpp
test-cpp: build $(VENV)/.catch2 ## Build and run the C++ tests
	$(call cpp_tests,cpp,)

.PHONY: test-asan test-tsan
test-asan: build $(VENV)/.catch2 ## C++ tests under AddressSanitizer and UBSan
	$(call cpp_tests,asan,address;undefined)
test-tsan: build $(VENV)/.catch2 ## C++ tests under ThreadSanitizer
	$(call cpp_tests,tsan,thread)

FUZZ_SECONDS ?= 600
FUZZ_TARGETS := directory operations

# $(1): the target; each has half of the time. -max_len: longer inputs only repeat themselves.
define fuzz
	mkdir -p build/fuzz/found-$(1)
	cd build/fuzz/found-$(1) && UBSAN_OPTIONS=halt_on_error=1 ../tests/store/fuzz_$(1) -max_total_time=$$(($(FUZZ_SECONDS) / 2)) -len_control=0 -max_len=$(2) -print_final_stats=1 . $(abspath tests/store/corpus/$(1))
endef

.PHONY: fuzz
fuzz: build ## Fuzz the store for FUZZ_SECONDS (needs clang and its run-time library)
	@command -v clang++ >/dev/null || { echo 'error: no clang++; apt-get install clang libclang-rt-14-dev' >&2; exit 1; }
	CXX=clang++ $(BIN)/cmake -S . -B build/fuzz -G Ninja -DKVTIER_PYTHON=OFF -DKVTIER_FUZZ=ON -DKVTIER_SANITIZE='fuzzer-no-link;address;undefined' -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) >/dev/null
	$(BIN)/cmake --build build/fuzz -j $(JOBS) --target $(addprefix fuzz_,$(FUZZ_TARGETS))
	$(call fuzz,directory,160)
	$(call fuzz,operations,1200)

STORE_SOURCES := $(filter-out csrc/store/binding%,$(wildcard csrc/store/*.cc))

.PHONY: check-macos
check-macos: $(VENV)/.python ## Compile the store for macOS (it is not run)
	$(BIN)/pip install --quiet ziglang==0.17.1
	mkdir -p build
	for source in $(STORE_SOURCES); do \
	  $(BIN)/python -m ziglang c++ -target aarch64-macos -std=c++20 -Wall -Wextra -Wpedantic -Werror \
	    -c $$source -o build/macos.o; \
	done

.PHONY: test-long
test-long: build ## The long forms of the soak, fuzz and kill tests
	$(BIN)/pytest -m slow --timeout 7200

.PHONY: test-kill
test-kill: build ## Kill launchers and engines 50 times (KVTIER_KILL_SEED=n for others)
	$(BIN)/pytest tests/ops/test_kills.py -m slow --timeout 1800

STRESS_SECONDS ?= 1800

.PHONY: stress
stress: build ## Kill engines and fail disks under random conversations for STRESS_SECONDS
	KVTIER_STRESS_SECONDS=$(STRESS_SECONDS) $(BIN)/pytest tests/e2e/stress -m slow

.PHONY: lint
lint: build ## Check style, types and the import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(CPP_FILES)
	$(BIN)/lint-imports
	$(BIN)/mypy

.PHONY: format
format: build ## Rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_FILES)

.PHONY: bench
bench: build ## Measure this machine; prints tables for docs/benchmarks.md (PEERS=folder of other stores)
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/tiers.py
	$(BIN)/python benchmarks/same_answers.py
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/store.py $(if $(PEERS),--peers $(PEERS))

.PHONY: docs
docs: build ## Generate the reference parts of docs/
	$(BIN)/python -P scripts/gen_profile_reference.py
	$(BIN)/python -P scripts/gen_doctor_reference.py

.PHONY: clean
clean: ## Remove .venv, build/ and caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
