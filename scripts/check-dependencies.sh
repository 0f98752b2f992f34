#!/usr/bin/env bash
# Dependencies nobody uses (cargo-machete); licences, sources and banned crates (cargo-deny, deny.toml). Neither tool comes
# with Rust: with CI set a missing one is a failure, else it is said.
set -euo pipefail
cd "$(dirname "$0")/.."

missing() {
    echo "check: $1 is not installed, so $2 were not checked. To install it:  scripts/check-tools.sh" >&2
    [ -z "${CI:-}" ]
}

if command -v cargo-machete >/dev/null; then
    "${CARGO:-cargo}" machete
else
    missing cargo-machete "unused dependencies"
fi
if command -v cargo-deny >/dev/null; then
    # Not the advisories: their database is a repository elsewhere, and a new entry would fail an unchanged commit.
    "${CARGO:-cargo}" deny --locked --log-level error check bans licenses sources
else
    missing cargo-deny "licences and sources"
fi
