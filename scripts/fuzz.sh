#!/usr/bin/env bash
# Runs each fuzz target for FUZZ_SECONDS (60). Needs the nightly toolchain and cargo-fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
if ! "$cargo" +nightly fuzz --version >/dev/null 2>&1; then
    if [ -z "${CI:-}" ]; then
        echo "fuzz: needs the nightly toolchain and cargo-fuzz:  rustup toolchain install nightly && cargo install --locked cargo-fuzz" >&2
        exit 1
    fi
    "$cargo" install --quiet --locked cargo-fuzz
fi
for target in fuzz/fuzz_targets/*.rs; do
    name=$(basename "$target" .rs)
    echo "fuzz: $name, ${FUZZ_SECONDS:-60} s"
    "$cargo" +nightly fuzz run "$name" -- -max_total_time="${FUZZ_SECONDS:-60}"
done
