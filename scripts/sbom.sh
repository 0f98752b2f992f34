#!/usr/bin/env bash
# What the binary is made of, as CycloneDX JSON: scripts/sbom.sh FILE. Every crate that is linked in must be in it, and be in Cargo.lock.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/target/tools/bin:$PATH
cargo=${CARGO:-cargo}
file=$(realpath -m "${1:-target/holdline.cdx.json}")
command -v cargo-cyclonedx >/dev/null || { echo "sbom: no cargo-cyclonedx. To build it:  scripts/package-tools.sh cargo-cyclonedx" >&2; exit 1; }

host=$(rustc --print host-tuple)
"$cargo" cyclonedx --quiet --format json --spec-version 1.5 --describe crate --no-build-deps --target "$host" \
    --override-filename holdline-sbom
mv holdline-sbom.json "$file"
linked=$("$cargo" tree --locked --edges normal,no-proc-macro --target "$host" --prefix none --format '{p}' | cut -d ' ' -f 1,2 | sed 's/ v/ /' |
    grep -v '^holdline ' | sort -u)
python3 - "$file" "$linked" <<'PYTHON'
import json, sys
listed = {f'{one["name"]} {one["version"]}' for one in json.load(open(sys.argv[1]))["components"]}
missing = [one for one in sys.argv[2].splitlines() if one not in listed]
if missing:
    sys.exit(f"sbom: not in the list: {missing}")
print(f"sbom: {len(listed)} components")
PYTHON
