# What a contributor types. Everything else is cargo.

.NOTPARALLEL:
.DEFAULT_GOAL := help
CARGO ?= cargo
# Tools that only `make check` uses live under target/, not in anybody's home.
TOOLS := $(CURDIR)/target/tools

.PHONY: help run test test-deps check bench bench-instructions

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-20s %s\n", $$1, $$2 }'

run: ## the demo: a whole failover on loopback, nothing to install
	$(CARGO) run --release -- demo

test: ## every test whose peer is installed; says which did not run
	@CARGO="$(CARGO)" scripts/test.sh

test-deps: ## install the real peers of the tests (apt packages, services kept from starting)
	@scripts/test-deps.sh
ifdef CI
	@CARGO="$(CARGO)" scripts/check-tools.sh
endif

check: ## formatting, lints, documentation, licences
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --no-deps --document-private-items --locked
	@CARGO="$(CARGO)" PATH="$(TOOLS)/bin:$$PATH" scripts/check-dependencies.sh

bench: ## speed and memory, Kamailio beside us; QUICK=1 for a short round
	@CARGO="$(CARGO)" QUICK="$(QUICK)" bench/run.sh

bench-instructions: ## the core's cost in instructions, compared with the committed table (valgrind)
	@CARGO="$(CARGO)" bench/instructions.sh
