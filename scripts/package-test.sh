#!/usr/bin/env bash
# The life of the packages: lintian; then, in a Debian of their own with a running systemd, installed, started, upgraded, removed and
# purged. The tree is made by debootstrap, once (target/package/tree, about two minutes); each life takes some seconds and writes to a
# layer that is thrown away. Needs root, debootstrap, lintian, rpm and what scripts/package.sh needs; says what is missing, and fails if
# CI is set.
set -euo pipefail
cd "$(dirname "$0")/.."
work=target/package
tree=$work/tree

missing=()
for tool in debootstrap lintian unshare nsenter; do
    command -v "$tool" >/dev/null || [ -x "/usr/sbin/$tool" ] || missing+=("$tool")
done
for tool in cargo-deb cargo-generate-rpm; do
    command -v "$tool" >/dev/null || [ -x "target/tools/bin/$tool" ] || missing+=("$tool")
done
[ "$(id -u)" -eq 0 ] || missing+=(root)
if [ ${#missing[@]} -gt 0 ]; then
    echo "NOT RUN: package-test (needs ${missing[*]})" >&2
    [ -z "${CI:-}" ]
    exit
fi

# Two packages that differ in their revision: an upgrade needs both.
rm -rf "$work/out"
for revision in 1 2; do REVISION=$revision scripts/package.sh >/dev/null; done

echo "package-test: lintian"
lintian --fail-on error,warning --allow-root "$work"/out/*-1_*.deb

if [ ! -e "$tree.made" ]; then
    echo "package-test: a Debian to install into"
    rm -rf "$tree"
    mirror=$(sed -n 's/^URIs: //p; s/^deb \(http[^ ]*\) .*/\1/p' /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
        head -n 1)
    /usr/sbin/debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,rpm bookworm "$tree" \
        "${mirror:-http://deb.debian.org/debian}" >"$work/debootstrap.log" || { tail "$work/debootstrap.log" >&2; exit 1; }
    touch "$tree.made"
fi
for kind in deb rpm; do
    echo "package-test: $kind"
    timeout --kill-after=5 120 scripts/in-systemd.sh "$tree" "$work/out" bash -s -- "$kind" <scripts/package-life.sh
done
echo "package-test: both packages were installed, started, upgraded and removed"
