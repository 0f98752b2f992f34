#!/usr/bin/env bash
# Holdline's resident memory with 10,000 UDP phones that have been refreshing for ten minutes, each once a minute, and with
# 1,000 TLS phones, a connection each. QUICK=1: half a minute of the former.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
if [ -n "${QUICK:-}" ]; then seconds=30; else seconds=600; fi

# shellcheck source=bench/server.sh
. bench/server.sh

"$cargo" build --release --locked --quiet --bin holdline --example load
load=target/release/examples/load

# measure WHAT LISTENERS… -- LOAD-OPTIONS…
measure() {
    local what=$1
    shift
    local listeners=()
    while [ "$1" != -- ]; do
        listeners+=("$1")
        shift
    done
    shift
    target/release/holdline run --outbound-proxy 127.0.0.1:17061 "${listeners[@]}" --upstream-bind 127.0.0.1:17062 \
        --admin 127.0.0.1:17063 --log-level warn >"$folder/holdline" 2>&1 &
    server=$!
    local line
    if ! line=$("$load" register --registrar 127.0.0.1:17061 --pid "$server" "$@"); then
        echo "memory: Holdline did not serve; its output:" >&2
        tail -n 20 "$folder/holdline" >&2
        exit 1
    fi
    end_server
    echo "$what: $(sed 's/.*rss_kib=\([0-9]*\).*/\1/' <<<"$line" | awk '{ printf "%.1f MB resident", $1 / 1024 }') ($line)"
}

measure "10,000 UDP phones after $seconds s" --listen udp:127.0.0.1:17060 -- \
    --proxy 127.0.0.1:17060 --phones 10000 --rate 167 --seconds "$seconds"

"$load" certificates "$folder"
measure "1,000 TLS phones" --listen tls:127.0.0.1:17060 --tls-cert "$folder/certificate.pem" --tls-key "$folder/key.pem" -- \
    --proxy 127.0.0.1:17060 --tls-ca "$folder/ca.pem" --phones 1000 --seconds 20
