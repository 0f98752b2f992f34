#!/usr/bin/env bash
# Makes a development authority and certificates: for Holdline's TLS listener (server), and one for each phone named.
#
#   certs/make.sh [--out DIR] [--rsa] [--days N] NAME[,NAME…] [PHONE…]
#
#   certs/make.sh phones.example.com,192.0.2.10 204 205
#
# NAMEs and addresses are what phones have as their outbound proxy. Into DIR (default certs/out, which git ignores): ca.crt, ca.key;
# server.crt, server.key; phone-204.crt, phone-204.key … The authority stays where there is one; everything else is made
# anew. Keys are ECDSA P-256, with --rsa RSA 2048, and readable by their owner alone. Needs openssl 1.1.1 or newer.
set -euo pipefail

out=$(dirname "$0")/out
key=(-algorithm EC -pkeyopt ec_paramgen_curve:P-256)
days=90
while [ $# -gt 0 ]; do
    case "$1" in
        --out) out=${2:?--out needs a directory}; shift 2 ;;
        --rsa) key=(-algorithm RSA -pkeyopt rsa_keygen_bits:2048); shift ;;
        --days) days=${2:?--days needs a number}; shift 2 ;;
        -*) sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
        *) break ;;
    esac
done
if [ $# -eq 0 ]; then
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 64
fi

umask 077
mkdir -p "$out"
cd "$out"
quietly() { openssl "$@" 2>openssl.log || { cat openssl.log >&2; exit 1; }; rm -f openssl.log; }

if [ ! -f ca.key ] || [ ! -f ca.crt ]; then
    quietly genpkey "${key[@]}" -out ca.key
    quietly req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=Holdline development authority" \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" -out ca.crt
fi

# sign FILE COMMON-NAME USAGE SUBJECT-ALTERNATIVE-NAMES
sign() {
    quietly genpkey "${key[@]}" -out "$1.key"
    quietly req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr"
    printf '%s\n' "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" "extendedKeyUsage=$3" \
        "subjectAltName=$4" "subjectKeyIdentifier=hash" "authorityKeyIdentifier=keyid" >"$1.ext"
    quietly x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" -sha256 -days "$days" \
        -extfile "$1.ext" -out "$1.crt"
    rm -f "$1.csr" "$1.ext"
    chmod 644 "$1.crt"
}

names=
IFS=, read -ra given <<<"$1"
for name in "${given[@]}"; do
    kind=DNS
    if [[ $name == *:* || $name =~ ^[0-9]+(\.[0-9]+){3}$ ]]; then kind=IP; fi
    names+="${names:+,}$kind:$name"
done
# TLS 1.3 and RFC 6125 look at these names only, not at the common name.
sign server "${given[0]}" serverAuth "$names"
shift
for phone in "$@"; do
    sign "phone-$phone" "$phone" clientAuth "DNS:phone-$phone"
done
chmod 644 ca.crt
echo "certificates are in $PWD"
