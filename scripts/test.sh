#!/usr/bin/env bash
# Runs every test and sums up. Changes nothing on the machine.
#
# A test whose real peer is not installed writes "NOT RUN: name (needs a, b)" and passes, as far as cargo can tell; here it
# is counted as skipped. With CI set such a test fails by itself. The last line is `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "$0")/.."

# The image's binary first, where the image can be run: beside the tests it would take their processors. A failure is the image
# test's to tell.
if [ $# -eq 0 ] && command -v buildah >/dev/null && command -v podman >/dev/null; then
    echo "building the static binary for the image"
    scripts/static.sh || true
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Each test has its own bound; this one is for what no test foresaw.
bound=()
if command -v timeout >/dev/null; then bound=(timeout --kill-after=10 "${TEST_BOUND:-1800}"); fi

"${bound[@]}" "${CARGO:-cargo}" test --locked --no-fail-fast "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

# One "test result:" line for each test binary and for the documentation's examples.
read -r passed failed ignored binaries < <(awk '
    /^test result: / {
        for (i = 2; i <= NF; i++) {
            if ($i == "passed;") passed += $(i - 1)
            if ($i == "failed;") failed += $(i - 1)
            if ($i == "ignored;") ignored += $(i - 1)
        }
        binaries++
    }
    END { print passed + 0, failed + 0, ignored + 0, binaries + 0 }' "$log")
not_run=$(grep -o 'NOT RUN: [a-z0-9_:]* (needs [^)]*)' "$log" | sort -u)
absent=0
if [ -n "$not_run" ]; then absent=$(grep -c . <<<"$not_run"); fi

echo
if [ "$absent" -gt 0 ] && [ -z "${CI:-}" ]; then
    # With CI set these have failed already and are counted there.
    passed=$((passed - absent))
    ignored=$((ignored + absent))
    sed 's/^NOT RUN: /not run: /' <<<"$not_run"
    echo "Real peers are missing. To run these too:  make test-deps"
fi
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        echo "The tests were stopped after ${TEST_BOUND:-1800} s."
    elif [ "$binaries" -eq 0 ]; then
        echo "The tests did not build."
    else
        echo "cargo test ended with status $status."
    fi
    failed=1
fi
echo "$passed passed, $failed failed, $ignored skipped"
[ "$failed" -eq 0 ]
