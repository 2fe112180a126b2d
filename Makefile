# SPDX-License-Identifier: Apache-2.0
#
# Everything from a fresh checkout; `make help` lists the targets.  What the
# system lacks is installed (as root) or named (otherwise); everything of
# Python lives in .venv/, so .venv/bin/pymigrate works after any target.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NATIVE := pymigrate/_native.abi3.so

C_SOURCES := $(shell find csrc -name build\* -prune -o -name '*.[chS]' -print)
C_STYLED  := $(shell find csrc tests/c examples bench -name build\* -prune -o \
		-name '*.[ch]' -print 2>/dev/null)
PYTHON_STYLED := $(wildcard pymigrate tests examples scripts bench setup.py)

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | \
		expand -t 14

build: $(NATIVE) ## set up: system packages, .venv, the native module

demo: build ## migrate a running guest between two processes, with proof
	$(BIN)/pymigrate demo --memory 256M --vcpus 2 --working-set 16M \
		--content mixed --verify

test: build lab-packages ## everything, the lab VM and the sanitizers included
	$(BIN)/pytest

test-asan: build ## the C unit tests under AddressSanitizer and UBSan
	$(BIN)/pytest tests/test_c_units.py -m asan

test-tsan: build ## the C unit tests under ThreadSanitizer
	$(BIN)/pytest tests/test_c_units.py -m tsan

test-lab: build lab-packages ## KVM, tracker and migration tests under kvm_amd
	$(BIN)/pytest -m lab

bench: build bench-packages ## measure this machine beside QEMU; about an hour
	$(BIN)/python -m bench.run

bench-quick: build bench-packages ## the same with small guests, once each, not kept
	$(BIN)/python -m bench.run --quick --discard

lint: build $(VENV)/.linters ## formatters and type checkers, changing nothing
	@PYTHON=$(PYTHON) scripts/packages.sh lint
	clang-format --dry-run -Werror $(C_STYLED)
	$(BIN)/ruff check $(PYTHON_STYLED)
	$(BIN)/ruff format --check $(PYTHON_STYLED)
	$(BIN)/mypy

clean: ## remove everything that was built
	$(MAKE) -s -C csrc clean
	rm -rf $(VENV) build dist *.egg-info pymigrate/_native.*
	find . -name __pycache__ -prune -exec rm -rf {} +

# Quick when nothing is missing, so asked every time.
system-packages:
	@PYTHON=$(PYTHON) scripts/packages.sh build

lab-packages: $(VENV)/.installed
	@PYTHON=$(PYTHON) scripts/packages.sh test lab
	@test -x $(BIN)/vng || $(BIN)/pip install -q 'virtme-ng>=1.42'

bench-packages: | system-packages
	@PYTHON=$(PYTHON) scripts/packages.sh bench

# The build dependencies are in the environment, so that pip need not fetch
# them into a temporary one for each build.
$(VENV)/.installed: pyproject.toml setup.py | system-packages
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q 'setuptools>=77' wheel 'cffi>=1.16'
	$(BIN)/pip install -q --no-build-isolation -e '.[test]'
	@touch $@

$(VENV)/.linters: $(VENV)/.installed
	$(BIN)/pip install -q --no-build-isolation -e '.[dev]'
	@touch $@

$(NATIVE): $(VENV)/.installed $(C_SOURCES) pymigrate/_native_build.py
	$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

.PHONY: help build demo test test-asan test-tsan test-lab bench bench-quick \
	lint clean system-packages lab-packages bench-packages
.DELETE_ON_ERROR:
