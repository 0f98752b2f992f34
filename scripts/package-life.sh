#!/usr/bin/env bash
# Run by scripts/package-test.sh inside of a booted system: the life of one package, `deb` or `rpm`. The packages are in /mnt.
set -euo pipefail
kind=$1

fail() { echo "package-life: $kind: $*" >&2; journalctl --no-pager --lines=30 >&2 || true; exit 1; }
is() { [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"; }
until_true() {
    for _ in $(seq 1 100); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.1; done
    fail "never came true: $*"
}
state() { systemctl show --value --property=ActiveState "$1"; }
process() { systemctl show --value --property=MainPID "$1"; }
both=(holdline.service holdline@customer.service)

if [ "$kind" = deb ]; then
    install() { dpkg --install /mnt/holdline_*-"$1"_*.deb >/dev/null; }
    remove() { dpkg --remove holdline >/dev/null; }
else
    # Debian's rpm knows none of Debian's packages: nothing could be depended on.
    install() { rpm --upgrade --nodeps /mnt/holdline-*-"$1".*.rpm; }
    remove() { rpm --erase holdline; }
fi

install 1
for unit in "${both[@]}"; do is "$unit after the installation" "$(state "$unit")" inactive; done
is "the key's mode" "$(stat -c '%a %U' /etc/holdline/contact.key)" "600 root"
is "the key's length" "$(wc -c </etc/holdline/contact.key)" 64
holdline --version >/dev/null
systemd-analyze verify --man=no "${both[@]}" || fail "the units"
[ -e /usr/share/man/man1/holdline-run.1.gz ] || fail "no manual page"

# As its reader would: one line, and a second record beside it.
sed -i 's/^srv = .*/outbound_proxy = "127.0.0.1:5999"/' /etc/holdline/holdline.toml
cat >/etc/holdline/customer.toml <<'TOML'
outbound_proxy = "127.0.0.1:5998"
listen = ["udp:0.0.0.0:5070", "tcp:0.0.0.0:5070"]
upstream_bind = "0.0.0.0:5081"
admin = "127.0.0.1:9461"
TOML
# systemd waits for READY; a second one would end with 69 if any port or directory were shared.
systemctl enable --quiet --now "${both[@]}" || fail "they do not start"
for unit in "${both[@]}"; do is "$unit" "$(state "$unit")" active; done
until_true holdline healthcheck --ready
until_true holdline healthcheck --ready --admin http://127.0.0.1:9461
table=$(holdline status --all) || fail "status --all: $table"
is "lines of status --all" "$(wc -l <<<"$table")" 3
grep -q '^customer .*127.0.0.1:5998 .* ok$' <<<"$table" || fail "status --all: $table"
for name in holdline holdline-customer; do
    is "the mode of $name's state" "$(stat -c '%a' "/var/lib/private/$name")" 700
    [ -S "/var/lib/$name/control.sock" ] || fail "no control socket in /var/lib/$name"
    holdline phones --state-dir "/var/lib/$name" >/dev/null || [ $? -eq 1 ] || fail "the control socket of $name"
done
for unit in "${both[@]}"; do
    user=$(stat -c %u "/proc/$(process "$unit")")
    [ "$user" -ne 0 ] || fail "$unit runs as root"
    is "$unit's capabilities" "$(sed -n 's/^CapEff:\t//p' "/proc/$(process "$unit")/status")" 0000000000000000
done
systemctl reload "${both[@]}"
until_true sh -c 'journalctl --unit=holdline --no-pager | grep -q "configuration read again\|nothing has changed"'

# An upgrade: what runs is the new one, what was written is still there.
was=$(process holdline.service) key=$(sha256sum /etc/holdline/contact.key) config=$(sha256sum /etc/holdline/holdline.toml)
install 2
for unit in "${both[@]}"; do is "$unit after the upgrade" "$(state "$unit")" active; done
[ "$(process holdline.service)" != "$was" ] || fail "the old version still runs"
is "the key" "$(sha256sum /etc/holdline/contact.key)" "$key"
is "the configuration" "$(sha256sum /etc/holdline/holdline.toml)" "$config"
until_true holdline healthcheck --ready

# A stop is a drain, which succeeds.
systemctl stop holdline.service
is "the result of the stop" "$(systemctl show --value --property=Result holdline.service)" success
systemctl start holdline.service

remove
for unit in "${both[@]}"; do is "$unit after the removal" "$(state "$unit")" inactive; done
[ ! -e /usr/bin/holdline ] || fail "the program is still there"
[ -e /etc/holdline/contact.key ] || fail "the key went with the program"
if [ "$kind" = deb ]; then
    rm /etc/holdline/customer.toml
    dpkg --purge holdline >/dev/null
    left=$(find / -xdev -name '*holdline*' -not -path '/proc/*' -not -path '/mnt/*' -not -path '/sys/*' -not -path '/var/log/*' \
        -not -path '/var/lib/systemd/*' -not -path '/run/*' -not -path '/tmp/*')
    is "what a purge leaves" "$left" ""
fi
