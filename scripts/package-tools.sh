#!/usr/bin/env bash
# Builds what makes packages and the list of what is in them, into target/tools: some minutes, once.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

for tool in "$@"; do
    case "$tool" in
        cargo-deb) version=3.8.0 ;;
        cargo-generate-rpm) version=0.21.1 ;;
        cargo-cyclonedx) version=0.5.9 ;;
        *) echo "package-tools: which version of $tool?" >&2; exit 64 ;;
    esac
    if command -v "$tool" >/dev/null || [ -x "target/tools/bin/$tool" ]; then continue; fi
    "$cargo" install --quiet --locked --root target/tools "$tool@$version"
done
