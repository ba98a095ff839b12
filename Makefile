# The usual ways in. `make help` lists them; docs/ and tools/ hold the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
JOBS := $(shell nproc)
CTEST := ctest --output-on-failure --no-tests=error --parallel $(JOBS) --test-dir

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what is missing (Debian packages, .venv)
	@tools/setup.sh

.PHONY: build
build: setup ## build the default preset into build/release
	@tools/build.sh release

.PHONY: run
run: build ## start a cluster on this machine and run the main job on it
	@$(PYTHON) tools/run_main_job.py

.PHONY: test
test: build lint ## what has to pass before a change goes in
	@$(CTEST) build/release
	@$(PYTHON) -m pytest tests

.PHONY: test-full
test-full: test asan tsan sim ## test, the sanitizers, and the slow tests
	@$(PYTHON) -m pytest tests -m full

SIM_SEEDS := 5000
.PHONY: sim
sim: build ## run SIM_SEEDS seeds of the simulators: clusters, and the gang scheduler alone
	@build/release/tools/causeway_sim --seeds $(SIM_SEEDS)
	@build/release/tools/causeway_sim --gangs --seeds $(SIM_SEEDS)

.PHONY: bench
bench: build ## run the benchmarks
	@$(PYTHON) bench/run.py

.PHONY: bench-spmd
bench-spmd: build ## one program over several processes, beside multi-controller JAX (ARGS="--only psum")
	@$(PYTHON) bench/run_spmd.py $(ARGS)

.PHONY: soak
soak: build ## run mixed work for SOAK_MINUTES (3), and see that nothing grows
	@$(PYTHON) tests/soak/run.py --minutes $(or $(SOAK_MINUTES),3)

.PHONY: chaos
chaos: build ## kill, stop and restart a cluster's processes under load (CHAOS_MINUTES=3, ARGS="--seed 7")
	@$(PYTHON) tests/chaos/run.py $(ARGS)

.PHONY: conformance
conformance: build ## run JAX's own tests through Causeway
	@$(PYTHON) tests/conformance/run.py

.PHONY: conformance-spmd
conformance-spmd: build ## the same on four workers, over which most programs lie
	@$(PYTHON) tests/conformance/run.py --hosts 4 --devices 2 --files shard_map_test pjit_test pmap_test array_test \
	  multi_device_test

.PHONY: clients
clients: build ## run the smoke suite in every client of the window
	@$(PYTHON) tests/clients/matrix.py

# FUZZ_SECONDS or FUZZ_RUNS for each target, FUZZ_TARGETS for some of them; tools/fuzz.py --help
.PHONY: fuzz
fuzz: setup ## run the fuzz targets, a minute each (FUZZ_SECONDS=, FUZZ_RUNS=, FUZZ_TARGETS=)
	@$(PYTHON) tools/fuzz.py $(FUZZ_TARGETS) $(FUZZ_RUNS:%=--runs %) $(FUZZ_SECONDS:%=--seconds %)

.PHONY: lint
lint: setup ## check format and style
	@tools/lint.sh

.PHONY: format
format: setup ## mend format and style where a tool can
	@tools/lint.sh --fix

.PHONY: tidy
tidy: build ## run clang-tidy over the C++ that differs from the last commit (slow)
	@tools/tidy.sh

.PHONY: asan tsan
asan: setup ## C++ tests under address, undefined-behaviour and leak sanitizers
tsan: setup ## C++ tests under the thread sanitizer
asan tsan:
	@tools/build.sh $@
	@$(CTEST) build/$@

.PHONY: clean
clean: ## remove what was built (.venv stays)
	rm -rf build
