#!/usr/bin/env bash
# Builds the two tools that `make check` asks about dependencies, into target/tools: about four minutes on two cores, once.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

for tool in cargo-machete@0.9.2 cargo-deny@0.20.2; do
    if command -v "${tool%@*}" >/dev/null || [ -x "target/tools/bin/${tool%@*}" ]; then
        continue
    fi
    "$cargo" install --quiet --locked --root target/tools "$tool"
done
