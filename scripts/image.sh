#!/usr/bin/env bash
# The image, by buildah, without a daemon.
#
#   scripts/image.sh build   for this machine's architecture: IMAGE:VERSION, in buildah's own storage
#   scripts/image.sh push    that, to IMAGE:VERSION-ARCHITECTURE in the registry
#   scripts/image.sh join    one manifest, IMAGE:VERSION, of what was pushed for amd64 and arm64
#
# IMAGE (registry.example.com/holdline) says where; push and join log in with REGISTRY_USER and REGISTRY_TOKEN, where they are set.
set -euo pipefail
cd "$(dirname "$0")/.."
image=${IMAGE:-registry.example.com/holdline}
image=${image,,}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) architecture=$(uname -m) ;;
esac

build() {
    scripts/static.sh
    # The label says what the binary says.
    local revision
    revision=$(target/image/holdline --version | sed 's/.*(\(.*\))/\1/')
    buildah build --isolation chroot --arch "$architecture" --file deploy/image/Dockerfile \
        --build-arg VERSION="$version" --build-arg REVISION="$revision" --tag "$image:$version" target/image
}
login() {
    if [ -n "${REGISTRY_TOKEN:-}" ]; then
        buildah login --username "$REGISTRY_USER" --password-stdin "${image%%/*}" <<<"$REGISTRY_TOKEN"
    fi
}

case ${1:-} in
    build) build ;;
    push)
        build
        login
        buildah push "$image:$version" "docker://$image:$version-$architecture"
        ;;
    join)
        login
        buildah manifest create "$image:$version"
        for one in amd64 arm64; do buildah manifest add "$image:$version" "docker://$image:$version-$one"; done
        buildah manifest push --all "$image:$version" "docker://$image:$version"
        ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac
