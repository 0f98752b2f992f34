#!/usr/bin/env bash
# SHA256SUMS of what is in target/release-files.
set -euo pipefail
cd "$(dirname "$0")/../target/release-files"
rm -f SHA256SUMS SHA256SUMS.sig
sums=$(sha256sum -- *)
echo "$sums" >SHA256SUMS
sha256sum --quiet --check SHA256SUMS
