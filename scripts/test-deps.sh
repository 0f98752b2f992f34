#!/usr/bin/env bash
# Installs the real peers and tools that `make test` exercises Holdline with, from the distribution's own packages.
#
# Debian starts services when they are installed, and Kamailio would take port 5060. So a policy-rc.d that refuses every
# start stands in place while apt works, and what stood there before comes back afterwards, also when apt fails. A service
# that came with a package we installed is disabled, so that the next boot does not start it either.
#
# The status page is looked at with Chromium; the two npm packages that drive it are installed under target/browser.
#
# Run again, it finds everything there and changes nothing. The checkers of deploy/, which no distribution has, come from
# scripts/deploy-tools.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    sip-tester              # SIPp: scripted phones
    kamailio                # a real registrar, and the proxy the benchmark measures against
    kamailio-extra-modules  # its JSON-RPC over a socket
    kamailio-tls-modules    # its TLS
    haproxy                 # a load balancer that sends PROXY headers
    redis-server            # what instances of one fleet share
    redis-sentinel          # and who says which of two of them is the primary
    baresip                 # a real handset
    linphone-cli            # another one (linphonec)
    tshark                  # reads a call's capture, and those of holdline trace
    sngrep                  # reads the latter, too, and receives HEP
    tmux                    # a terminal of 80 columns
    valgrind                # counts instructions (callgrind)
    prometheus              # scrapes Holdline; promtool checks the rules
    buildah                 # builds the image
    podman                  # runs it, with these four below it
    runc
    conmon
    catatonit
    netavark
    groff-base              # renders the manual pages
    chromium                # looks at the status page
    fonts-dejavu-core       # so that it has letters
    lintian                 # looks at the Debian package
    rpm                     # unpacks the other one
    debootstrap             # a Debian to install them into
)
# What would start: package:unit.
services=(
    kamailio:kamailio
    haproxy:haproxy
    redis-server:redis-server
    redis-sentinel:redis-sentinel
    prometheus:prometheus
    podman:podman.socket
    podman:podman.service
    podman:podman-restart.service
    podman:podman-auto-update.timer
)

# What comes from npm and PyPI, pinned, and nowhere but under target/. The browser's lock file is copied last: a step that
# broke off begins again.
tools() {
    scripts/deploy-tools.sh
    local into=target/browser
    cmp -s tests/browser/package-lock.json "$into/installed" && return
    echo "test-deps: installing what drives the browser"
    mkdir -p "$into"
    cp tests/browser/package.json tests/browser/package-lock.json "$into/"
    (cd "$into" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    cp "$into/package-lock.json" "$into/installed"
}

# Node.js may have come from elsewhere than the distribution.
for program in nodejs:node npm:npm; do
    command -v "${program#*:}" >/dev/null || packages+=("${program%:*}")
done

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    tools
    echo "test-deps: every peer is installed"
    exit 0
fi

if ! command -v apt-get >/dev/null; then
    echo "test-deps: no apt-get here. Install these by hand, or do without the tests that need them: ${missing[*]}" >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root=(sudo)
else
    echo "test-deps: needs root to install ${missing[*]}. Run it as root or where sudo works." >&2
    exit 1
fi

policy=/usr/sbin/policy-rc.d
kept=$policy.holdline-kept
restore() {
    "${as_root[@]}" rm -f "$policy"
    if "${as_root[@]}" test -e "$kept"; then
        "${as_root[@]}" mv "$kept" "$policy"
    fi
}
# What an interrupted run left is the original: it is not overwritten.
if [ -e "$policy" ] && [ ! -e "$kept" ]; then
    "${as_root[@]}" mv "$policy" "$kept"
fi
trap restore EXIT
trap 'exit 130' INT TERM HUP
printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
"${as_root[@]}" chmod 755 "$policy"

present=()
for service in "${services[@]}"; do
    if dpkg-query --show "${service%%:*}" >/dev/null 2>&1; then present+=("$service"); fi
done

install() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --quiet --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "${missing[@]}"
}
echo "test-deps: installing ${missing[*]}"
# The lists may be missing or older than the mirror: only then are they fetched.
if ! install; then
    "${as_root[@]}" apt-get update --quiet -o DPkg::Lock::Timeout=300
    install
fi

for service in "${services[@]}"; do
    case " ${present[*]-} " in
        *" $service "*) ;; # was here before us: its owner decides
        *) "${as_root[@]}" systemctl disable --quiet "${service#*:}" 2>/dev/null || true ;;
    esac
done
tools
echo "test-deps: done"
