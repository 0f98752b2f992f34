# What a contributor types. Everything else is cargo.

.NOTPARALLEL:
.DEFAULT_GOAL := help
CARGO ?= cargo
# Tools that only some targets use live under target/, not in anybody's home.
TOOLS := $(CURDIR)/target/tools
export CARGO

.PHONY: help run test test-deps check attacks bench bench-instructions bench-storm bench-syscalls msrv version advisories fuzz package package-test image image-push image-join sbom \
	release sums sign publish

help: ## these lines
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-20s %s\n", $$1, $$2 }'

run: ## the demo: a whole failover on loopback, nothing to install
	$(CARGO) run --release -- demo

test: ## every test whose peer is installed; says which did not run
	@scripts/test.sh

test-deps: ## install the real peers of the tests (apt packages, services kept from starting)
	@scripts/test-deps.sh
ifdef CI
	@scripts/check-tools.sh
	@scripts/package-tools.sh cargo-deb cargo-generate-rpm
endif

check: ## formatting, lints, documentation, licences
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --no-deps --document-private-items --locked
	@PATH="$(TOOLS)/bin:$$PATH" scripts/check-dependencies.sh

attacks: ## twenty honest handsets under each attack for ten seconds, and a minute's rest: the table of docs/security.md
	HOLDLINE_ATTACK_SECONDS=10 $(CARGO) test --release --locked --test all -- loopback::attacks --nocapture

bench: ## speed and memory, Kamailio beside us; QUICK=1 for a short round
	@QUICK="$(QUICK)" bench/run.sh

bench-storm: ## 3,000 TLS phones connect at once, beside others that register over UDP
	@bench/storm.sh

bench-syscalls: ## system calls for one REGISTER at low rates (strace)
	@bench/syscalls.sh

bench-instructions: ## the core's cost in instructions, compared with the committed table (valgrind)
	@bench/instructions.sh

msrv: ## the oldest Rust that builds it: dependencies, and a build where that version is installed
	@scripts/msrv.sh

advisories: ## known vulnerabilities of dependencies; asks the network
	@scripts/check-tools.sh
	@PATH="$(TOOLS)/bin:$$PATH" $(CARGO) deny --locked check advisories

fuzz: ## each fuzz target for a minute; FUZZ_SECONDS=900 for longer
	@FUZZ_SECONDS="$(FUZZ_SECONDS)" scripts/fuzz.sh

package: ## a .deb and an .rpm, in target/package/out
	@scripts/package-tools.sh cargo-deb cargo-generate-rpm
	@scripts/package.sh

package-test: ## lintian; installed, started, upgraded and removed under a systemd of their own
	@scripts/package-test.sh

image: ## the image, for this machine's architecture (buildah)
	@scripts/image.sh build

sbom: ## what the binary is made of: target/holdline.cdx.json (CycloneDX)
	@scripts/package-tools.sh cargo-cyclonedx
	@scripts/sbom.sh

version: ## whether every place names the version in Cargo.toml
	@scripts/version.sh

release: ## everything that a release consists of, in target/release-files
	@scripts/release.sh

# What only the release workflow does: docs/releasing.md.
image-push:
	@scripts/image.sh push

image-join:
	@scripts/image.sh join

sums:
	@scripts/sums.sh

sign:
	cosign sign-blob --yes --bundle target/release-files/SHA256SUMS.sig target/release-files/SHA256SUMS

publish:
	gh release create "$(TAG)" --verify-tag --title "$(TAG)" --notes-file CHANGELOG.md target/release-files/*
