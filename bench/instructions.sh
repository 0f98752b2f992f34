#!/usr/bin/env bash
# Counts the instructions that the core spends on a message exchange, with valgrind's callgrind: the same binary and input give
# the same number on any machine, loaded or not.
#
#   bench/instructions.sh           prints the table beside bench/instructions.txt; fails if one is 5 % worse
#   bench/instructions.sh --bless   writes bench/instructions.txt anew
#
# A scenario is played 600 and 200 times; the difference is divided by 400, so that what happens once is not counted.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
table=bench/instructions.txt
if ! command -v valgrind >/dev/null; then
    echo "bench-instructions: valgrind is not installed (make test-deps installs it)" >&2
    exit 1
fi
binary=$("$cargo" bench --locked --bench instructions --no-run --message-format=json 2>/dev/null |
    python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "instructions": print(message["executable"])')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
counted() { # scenario, rounds
    valgrind --tool=callgrind --callgrind-out-file="$scratch/out" --collect-atstart=no \
        --toggle-collect='*instructions*measured*' --toggle-collect='*instructions*timers*' \
        "$binary" "$1" "$2" 2>"$scratch/log" || { cat "$scratch/log" >&2; exit 1; }
    sed -n 's/^.*Collected : \([0-9]*\).*$/\1/p' "$scratch/log"
}
for scenario in $("$binary"); do
    few=$(counted "$scenario" 200)
    many=$(counted "$scenario" 600)
    echo "$scenario $(((many - few) / 400))"
done >"$scratch/table"
if [ "${1:-}" = --bless ]; then
    cp "$scratch/table" "$table"
    cat "$table"
    exit 0
fi
worse=0
printf '%-22s %12s %12s\n' scenario committed now
while read -r scenario now; do
    before=$(awk -v name="$scenario" '$1 == name { print $2 }' "$table")
    printf '%-22s %12s %12s\n' "$scenario" "${before:--}" "$now"
    if [ -z "$before" ] || [ $((now * 100)) -gt $((before * 105)) ]; then worse=1; fi
done <"$scratch/table"
if [ "$worse" -ne 0 ]; then
    echo "bench-instructions: more than 5 % worse than $table (or not in it); --bless writes it anew if that is meant" >&2
    exit 1
fi
