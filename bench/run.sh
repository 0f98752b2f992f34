#!/usr/bin/env bash
# Holdline beside Kamailio: processor time for one REGISTER transaction and for one call over loopback UDP, closed loop and at
# fixed rates. A call is INVITE, 100, 180, 200, ACK, BYE and 200, with a Record-Route (two of Holdline's, RFC 5658).
# Then Holdline's memory (bench/memory.sh) and the micro-benchmarks (cargo bench). QUICK=1 is a short round of each.
#
# Both relay statefully. For REGISTER both rewrite the Contact and restore it, and count failures. Kamailio has one UDP worker
# (bench/kamailio.cfg) for Holdline's one thread. What is not equal: both are told to keep a transaction for 32 s, but in the
# closed loop Holdline meets its limit of 65,536 within a second and ends the oldest completed ones early, while Kamailio
# keeps them all; and Holdline has one static target, Kamailio the first of two. A run is shorter than 32 s. The processor time is that of the server's whole process tree,
# user and system, divided by the transactions completed. The runs alternate; medians are compared.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin
cargo=${CARGO:-cargo}
if [ -n "${QUICK:-}" ]; then rounds=2 seconds=3; else rounds=5 seconds=8; fi
outstanding=${OUTSTANDING:-64}
# A call is several messages in both directions at once: fewer of them, so that no socket's buffer overflows.
calls_outstanding=${CALLS_OUTSTANDING:-32}
# The higher one is about half of what Kamailio carries in the closed loop here; at the lower one both mostly sleep.
read -ra rates <<<"${RATES:-1000 5000}"
read -ra call_rates <<<"${CALL_RATES:-500 1500}"

proxy=127.0.0.1:17060
registrar=127.0.0.1:17061

# shellcheck source=bench/server.sh
. bench/server.sh

"$cargo" build --release --locked --quiet --bin holdline --example load --example relay
load=target/release/examples/load

start_holdline() {
    target/release/holdline run --outbound-proxy "$registrar" --listen "udp:$proxy" --upstream-bind 127.0.0.1:17062 \
        --admin 127.0.0.1:17063 --log-level warn "$@" >"$folder/holdline" 2>&1 &
    server=$!
}
start_kamailio() {
    kamailio -f bench/kamailio.cfg -A "ADDRESS=\"$proxy\"" -A "TARGET_A=\"sip:$registrar\"" \
        -A 'TARGET_B="sip:127.0.0.1:17069"' -l "udp:$proxy" -DD -E -m 2048 -M 16 -Y "$folder" >"$folder/kamailio" 2>&1 &
    server=$!
}

# The least that a relay could cost: see examples/relay.rs.
start_relay() {
    target/release/examples/relay "$proxy" "$registrar" >"$folder/relay" 2>&1 &
    server=$!
}

# run NAME WORK LABEL LOAD-OPTIONS…: one run of a fresh server; what came out goes to a file for each server, work and load.
run() {
    local name=$1 work=$2 label=$3
    shift 3
    local settings=()
    # A call's INVITE transactions stay for 32 s after its 2xx and give way to nobody: room for all of them, as in Kamailio.
    if [ "$name $work" = "holdline call" ]; then settings=(--limit-transactions 1000000); fi
    "start_$name" "${settings[@]}"
    local line
    # Its first act is to register every phone, over and over until they are answered or a minute is over.
    if ! line=$("$load" "$work" --proxy "$proxy" --registrar "$registrar" --pid "$server" --seconds "$seconds" "$@"); then
        echo "bench: $name did not serve; its output:" >&2
        tail -n 20 "$folder/$name" >&2
        exit 1
    fi
    end_server
    printf '%-9s %-9s %-7s %s\n' "$name" "$work" "$label" "$line"
    echo "$line" >>"$folder/$name.$work.$label"
}
# median NAME WORK LABEL KEY
median() {
    sed "s/.*$4=\([0-9.]*\).*/\1/" "$folder/$1.$2.$3" | sort -n |
        awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}
# compare WORK OUTSTANDING LABEL…: a line for each load
compare() {
    local work=$1 open=$2
    shift 2
    local label what ours theirs
    for label in "$@"; do
        if [ "$label" = closed ]; then what="$open open at any time"; else what="$label a second offered"; fi
        ours=$(median holdline "$work" "$label" cpu_us)
        if [ ${#servers[@]} -eq 2 ]; then
            theirs=$(median kamailio "$work" "$label" cpu_us)
            printf '  %-24s Holdline %6.1f us (%.0f/s)   Kamailio %6.1f us (%.0f/s)   ratio %.2f\n' "$what:" "$ours" \
                "$(median holdline "$work" "$label" per_second)" "$theirs" \
                "$(median kamailio "$work" "$label" per_second)" "$(awk "BEGIN { print $ours / $theirs }")"
        else
            printf '  %-24s Holdline %6.1f us (%.0f/s)\n' "$what:" "$ours" \
                "$(median holdline "$work" "$label" per_second)"
        fi
    done
}

echo "$(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), Linux $(uname -r), load $(cut -d' ' -f1 /proc/loadavg)"
servers=(holdline kamailio)
if ! command -v kamailio >/dev/null; then
    echo "bench: Kamailio is not installed (make test-deps): Holdline alone"
    servers=(holdline)
fi
for ((round = 1; round <= rounds; round++)); do
    for label in closed "${rates[@]}"; do
        if [ "$label" = closed ]; then options=(--outstanding "$outstanding"); else options=(--rate "$label"); fi
        for name in "${servers[@]}" relay; do run "$name" register "$label" "${options[@]}"; done
    done
    for label in closed "${call_rates[@]}"; do
        if [ "$label" = closed ]; then options=(--outstanding "$calls_outstanding"); else options=(--rate "$label"); fi
        for name in "${servers[@]}"; do run "$name" call "$label" "${options[@]}"; done
    done
done

echo
echo "Medians of $rounds runs of $seconds s: processor time for one REGISTER transaction"
compare register "$outstanding" closed "${rates[@]}"
for label in closed "${rates[@]}"; do
    ours=$(median holdline register "$label" cpu_us) least=$(median relay register "$label" cpu_us)
    printf '  %-24s a relay that looks at nothing %6.1f us   ratio %.2f\n' "$label:" "$least" \
        "$(awk "BEGIN { print $ours / $least }")"
done
echo "and for one call (INVITE, 100, 180, 200, ACK, BYE, 200)"
compare call "$calls_outstanding" closed "${call_rates[@]}"

echo
bench/memory.sh

if compgen -G 'benches/*.rs' >/dev/null; then
    echo
    if [ -n "${QUICK:-}" ]; then quick=(-- --quick); else quick=(); fi
    "$cargo" bench --locked --quiet --bench '*' "${quick[@]}"
fi
