#!/usr/bin/env bash
# A fleet of 3,000 TLS phones that connects all at once, to an RSA-2048 certificate, beside 300 REGISTERs a second over UDP:
# what those wait for their answers, and when the last phone of the fleet has been served. FLEET=500 for a smaller one.
# HOLDLINE_IO_THREADS says how many threads do TLS. Loopback only.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
fleet=${FLEET:-3000}
command -v openssl >/dev/null || { echo "storm: openssl is not installed (apt-get install openssl)" >&2; exit 1; }
if [ "$(ulimit -n)" -lt $((2 * fleet + 1000)) ] && ! ulimit -n $((2 * fleet + 1000)); then
    echo "storm: $((2 * fleet + 1000)) descriptors are needed (ulimit -n)" >&2
    exit 1
fi
binary=${HOLDLINE:-target/release/holdline}
"$cargo" build --release --locked --quiet --bin holdline --example load

# shellcheck source=bench/server.sh
. bench/server.sh

openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=storm authority' \
    -keyout "$folder/ca.key" -out "$folder/ca.pem" 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj '/CN=localhost' -keyout "$folder/key.pem" -out "$folder/request.pem" 2>/dev/null
printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' >"$folder/extensions"
openssl x509 -req -days 2 -in "$folder/request.pem" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" -CAcreateserial \
    -extfile "$folder/extensions" -out "$folder/certificate.pem" 2>/dev/null

"$binary" run --outbound-proxy 127.0.0.1:17061 --listen udp:127.0.0.1:17060 --listen tls:127.0.0.1:17060 --allow 127.0.0.0/8 \
    --tls-cert "$folder/certificate.pem" --tls-key "$folder/key.pem" --upstream-bind 127.0.0.1:17062 \
    --admin 127.0.0.1:17063 --log-level warn >"$folder/holdline" 2>&1 &
server=$!
if ! line=$(target/release/examples/load storm --proxy 127.0.0.1:17060 --tls 127.0.0.1:17060 --tls-ca "$folder/ca.pem" \
    --registrar 127.0.0.1:17061 --pid "$server" --fleet "$fleet" --rate 300 --seconds "${SECONDS_WATCHED:-15}"); then
    echo "storm: Holdline did not serve; its output:" >&2
    tail -n 20 "$folder/holdline" >&2
    exit 1
fi
echo "storm of $fleet: $line"
