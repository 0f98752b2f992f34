#!/usr/bin/env bash
# Makes the .deb and the .rpm, in target/package/out, around a binary that is there already: BINARY, else the static one of
# scripts/static.sh, which is built where its sources have changed. REVISION (default 1) is the packages' own number.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/target/tools/bin:$PATH
cargo=${CARGO:-cargo}
revision=${REVISION:-1}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# The commit's time, so that the same commit makes the same packages.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

for tool in cargo-deb cargo-generate-rpm; do
    command -v "$tool" >/dev/null || { echo "package: no $tool. To build it:  scripts/package-tools.sh" >&2; exit 1; }
done
if [ -z "${BINARY:-}" ]; then
    scripts/static.sh
    BINARY=target/image/holdline
fi

work=target/package
root=$work/root
doc=$root/usr/share/doc/holdline
rm -rf "$root" "$work/debian"
mkdir -p "$root/usr/share/man/man1" "$work/debian/doc" "$work/out"
place() { install -D -m "$1" "$2" "$root/$3"; }

place 755 "$BINARY" usr/bin/holdline
strip "$root/usr/bin/holdline"
holdline=$root/usr/bin/holdline
place 644 deploy/systemd/holdline.toml etc/holdline/holdline.toml
place 644 deploy/systemd/holdline.service usr/lib/systemd/system/holdline.service
place 644 deploy/systemd/holdline@.service usr/lib/systemd/system/holdline@.service
place 644 deploy/systemd/tls.conf usr/share/doc/holdline/examples/tls.conf
place 644 holdline.example.toml usr/share/doc/holdline/examples/holdline.example.toml
place 644 deploy/prometheus/rules.yml usr/share/doc/holdline/examples/prometheus-rules.yml
place 644 deploy/grafana/holdline.json usr/share/doc/holdline/examples/grafana.json
[ -d "$doc" ]

man() { gzip -9n >"$root/usr/share/man/man1/$1.1.gz"; }
"$holdline" man | man holdline
# The lines of "Commands:" in the help.
"$holdline" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z]*\) .*/\1/p' | while read -r command; do
    if [ "$command" != help ]; then "$holdline" man "$command" | man "holdline-$command"; fi
done
completions() { mkdir -p "$root/$(dirname "$2")" && "$holdline" completions "$1" >"$root/$2"; }
completions bash usr/share/bash-completion/completions/holdline
completions zsh usr/share/zsh/site-functions/_holdline
completions fish usr/share/fish/vendor_completions.d/holdline.fish

# What Debian wants in the folder of the documentation.
gzip -9nc CHANGELOG.md >"$work/debian/doc/changelog.gz"
maintainer=$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)
printf 'holdline (%s-%s) stable; urgency=medium\n\n  * What changed is in changelog.gz.\n\n -- %s  %s\n' \
    "$version" "$revision" "$maintainer" "$(LC_ALL=C date --utc --date "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %T +0000')" |
    gzip -9n >"$work/debian/doc/changelog.Debian.gz"

"$cargo" deb --quiet --no-build --no-strip --deb-revision "$revision" --output "$work/out/"
"$cargo" generate-rpm --set-metadata "release = \"$revision\"" --output "$work/out/"
ls -l "$work/out"
