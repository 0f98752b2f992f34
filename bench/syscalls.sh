#!/usr/bin/env bash
# System calls of Holdline for one REGISTER, up and back, over loopback UDP at low rates, where most sites live. Needs strace.
#
#   bench/syscalls.sh [RATE…]      100 and 1,000 REGISTERs a second, unless others are named
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
command -v strace >/dev/null || { echo "syscalls: strace is not installed (apt-get install strace)" >&2; exit 1; }
if [ $# -gt 0 ]; then rates=("$@"); else rates=(100 1000); fi

# shellcheck source=bench/server.sh
. bench/server.sh

"$cargo" build --release --locked --quiet --bin holdline --example load
# counted RATE SECONDS: the calls of the signalling thread, which has the process's own number, and how many REGISTERs they were for.
counted() {
    target/release/holdline run --outbound-proxy 127.0.0.1:17061 --listen udp:127.0.0.1:17060 \
        --upstream-bind 127.0.0.1:17062 --admin 127.0.0.1:17063 --log-level warn >"$folder/holdline" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        if curl --silent --fail --output /dev/null http://127.0.0.1:17063/readyz; then break; fi
        sleep 0.05
    done
    strace -c -U calls,name -o "$folder/calls" -p "$server" 2>"$folder/strace" &
    tracer=$!
    target/release/examples/load register --proxy 127.0.0.1:17060 --registrar 127.0.0.1:17061 --pid "$server" --phones 100 \
        --seconds "$2" --rate "$1" --cold | sed 's/completed=\([0-9]*\).*/\1 completed/' >"$folder/$2"
    kill -INT "$tracer" 2>/dev/null || true
    wait "$tracer" 2>/dev/null || true
    end_server
    awk '$1 ~ /^[0-9]+$/ && $2 != "total"' "$folder/calls" >>"$folder/$2"
}
for rate in "${rates[@]}"; do
    # What happens once falls out of the difference of a short and a long run.
    counted "$rate" 3
    counted "$rate" 9
    awk -v rate="$rate" '
        NR == FNR { few[$2] = $1; next }
        { more[$2] = $1 - few[$2] }
        END {
            printf "%s REGISTERs a second: system calls for each\n", rate
            for (name in more)
                if (name != "completed" && more[name] / more["completed"] >= 0.01)
                    printf "  %-16s %5.2f\n", name, more[name] / more["completed"]
        }' "$folder/3" "$folder/9"
done
