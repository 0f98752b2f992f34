#!/usr/bin/env bash
# Builds the static binary and lays out what the image is made of, in target/image: holdline, ca-certificates.crt and an empty
# directory. About five minutes of processor time at first; nothing where the sources have not changed.
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-gnu
[ "$(uname -m)" = x86_64 ] || target=$(uname -m)-unknown-linux-gnu

# A target directory of its own: with other flags everything is built anew, and the usual one is not thrown away for it.
CARGO_TARGET_DIR=target/static RUSTFLAGS="-C target-feature=+crt-static" \
    "${CARGO:-cargo}" build --quiet --release --locked --bin holdline --target "$target"

# The state's directory in the image is empty.
mkdir -p target/image/state
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
    [ -r "$bundle" ] && break
done
# Only where something has changed, so that a build of the image can tell.
place() { cmp -s "$1" "target/image/$2" || install -m "$3" "$1" "target/image/$2"; }
# Without symbols: a panic names its file and line all the same.
strip -o target/static/holdline "target/static/$target/release/holdline"
place target/static/holdline holdline 755
place "$bundle" ca-certificates.crt 644
