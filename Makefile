# Every task of the project by its plain name. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CARGO ?= cargo
# Where cargo builds, so that the targets below find what they built.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# What `make bench` runs, e.g. make bench BENCH="limits --dir /mnt/nvme --json limits.json".
BENCH ?= limits

# Suites that start real processes and mounts: after all others, and one test at a time, so that two loaded cores suffice.
PROCESS_SUITES := $(sort $(basename $(notdir $(wildcard client/tests/*.rs))))
# Of these, those that wait much, for links and for clients that start: some of their tests run at once.
WAITING_SUITES := netns
HALF_WAITING_SUITES := interop
OTHER_SUITES := $(filter-out $(PROCESS_SUITES),$(sort $(basename $(notdir \
	$(wildcard crates/*/tests/*.rs cache-node/tests/*.rs client/fuse/tests/*.rs bench/tests/*.rs)))))

.PHONY: help build release install-deps fmt lint tidy unit suites test demo bench clean-mounts

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build everything for development
	$(CARGO) build --workspace

release: ## build the shipped binaries, optimised
	$(CARGO) build --release -p shoal -p shoal-node

install-deps: ## install what building, mounting and testing need (Debian 12; root or sudo)
	scripts/install-deps --test

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## refuse unformatted code and every clippy warning
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

tidy: ## check layers, module circles, owners of third parties, file shape
	$(CARGO) test -p shoal-testkit --test tidy

# Built once for all test targets: one set of features, so nothing is compiled twice.
unit: ## run every test that starts no process of ours
	$(CARGO) build --workspace --bins --tests
	$(CARGO) test --workspace --lib --bins $(OTHER_SUITES:%=--test %)
	$(CARGO) test --workspace --doc

suites: ## run the suites that start nodes and mounts
	$(CARGO) build --workspace --bins --tests
	$(CARGO) test --workspace $(patsubst %,--test %,$(filter-out $(WAITING_SUITES) $(HALF_WAITING_SUITES),$(PROCESS_SUITES))) -- --test-threads=1
	$(CARGO) test --workspace $(HALF_WAITING_SUITES:%=--test %) -- --test-threads=2
	$(CARGO) test --workspace $(WAITING_SUITES:%=--test %) -- --test-threads=4

# In this order whatever -j says: cheap refusals first, processes last.
test: ## everything CI runs: install-deps, lint, unit, suites
	$(MAKE) install-deps
	$(MAKE) lint
	$(MAKE) unit
	$(MAKE) suites

demo: ## a ring of three nodes and a mounted volume on this machine
	scripts/install-deps
	$(CARGO) build --release -p shoal -p shoal-node
	$(TARGET)/release/shoal demo

bench: ## measure (BENCH="limits ..." picks what)
	$(CARGO) build --release -p shoal-bench
	$(TARGET)/release/shoal-bench $(BENCH)

clean-mounts: ## detach mounts that a killed test or demo left behind
	scripts/clean-mounts
