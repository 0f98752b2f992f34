#!/usr/bin/env bash
# Whether every place that names the version names the one in Cargo.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
wrong=$(grep -rnE '(newTag: |ARG VERSION=|holdline:|^appVersion: |^version: )"?[0-9]+\.[0-9]+\.[0-9]+' deploy docs/releasing.md README.md |
    grep -vE "(newTag: |ARG VERSION=|holdline:|ersion: )\"?${version//./\\.}" || true)
if [ -n "$wrong" ]; then
    echo "version: it is $version in Cargo.toml, but" >&2
    echo "$wrong" >&2
    exit 1
fi
echo "version: $version everywhere"
