#!/usr/bin/env bash
# Whether `rust-version` in Cargo.toml is true: no dependency asks for more; and it builds with that version, where rustup has it.
# (That the standard library is used as that version had it is clippy's `incompatible_msrv`, in `make check`.) Says what it did.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

newer=$("$cargo" metadata --locked --format-version 1 --filter-platform "$(rustc --print host-tuple)" | python3 -c '
import json, sys
number = lambda text: tuple(int(part) for part in (text.split("-")[0] + ".0.0").split(".")[:3])
oldest = number(sys.argv[1])
for one in json.load(sys.stdin)["packages"]:
    if number(one.get("rust_version") or "1.0") > oldest:
        print(one["name"], one["version"], "needs Rust", one["rust_version"])' "$oldest")
if [ -n "$newer" ]; then
    echo "msrv: rust-version is $oldest, but" >&2
    echo "$newer" >&2
    exit 1
fi
echo "msrv: no dependency needs more than Rust $oldest"

if rustup toolchain list 2>/dev/null | grep -q "^$oldest"; then
    CARGO_TARGET_DIR=target/msrv rustup run "$oldest" cargo check --quiet --locked --all-targets
    echo "msrv: it builds with Rust $oldest"
else
    echo "msrv: NOT built with Rust $oldest, which is not installed here. To install it:  rustup toolchain install $oldest --profile minimal"
fi
