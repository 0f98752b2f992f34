#!/usr/bin/env bash
# Everything that a release consists of on this machine's architecture, into target/release-files: docs/releasing.md.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
out=target/release-files

# A tag that says something else than Cargo.toml releases the wrong thing.
case ${GITHUB_REF_NAME:-v$version} in
    v"$version") ;;
    *) echo "release: the tag is $GITHUB_REF_NAME, the version is $version" >&2; exit 1 ;;
esac
scripts/version.sh
rm -rf "$out"
mkdir -p "$out"

scripts/package-tools.sh cargo-deb cargo-generate-rpm cargo-cyclonedx
rm -rf target/package/out
scripts/package.sh
cp target/package/out/* "$out/"

name=holdline-$version-$(uname -m)-linux
rm -rf "target/$name"
mkdir -p "target/$name"
cp target/image/holdline LICENSE README.md CHANGELOG.md holdline.example.toml deploy/systemd/holdline*.service "target/$name/"
tar --directory target --sort=name --owner=0 --group=0 --numeric-owner \
    --mtime "@$(git log -1 --format=%ct)" --create "$name" | gzip -9n >"$out/$name.tar.gz"
scripts/sbom.sh "$out/holdline-$version.cdx.json"
scripts/sums.sh
ls -l "$out"
