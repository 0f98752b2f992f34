#!/usr/bin/env bash
# Boots the systemd of a root file system in namespaces of its own (processes, mounts, network with nothing but loopback), and runs a
# command in there. What it writes goes to a layer that is thrown away. Needs root.
#
#   scripts/in-systemd.sh TREE FOLDER COMMAND…      FOLDER is seen in there as /mnt
set -euo pipefail
tree=$(realpath "$1") folder=$(realpath "$2")
shift 2

stage=$(mktemp -d)
# What runs inside the new namespaces, up to systemd itself.
cat >"$stage/boot" <<'BOOT'
set -e
stage=$1 tree=$2 folder=$3
mount --make-rprivate /
# Its own, so that the layer can be of any kind that an overlay takes.
mount -t tmpfs tmpfs "$stage/layer"
mkdir "$stage/layer/upper" "$stage/layer/work"
root=$stage/root
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$stage/layer/upper,workdir=$stage/layer/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
for place in run tmp dev sys/fs/cgroup; do mount -t tmpfs tmpfs "$root/$place"; done
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -p "$root"/dev/{pts,shm,mqueue} "$root"/sys/fs/cgroup/{unified,systemd}
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
# Old kernels' layout, which is what a machine with both has, too.
mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd" || mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified" || true
mkdir -p "$root/folder"
mount --bind "$folder" "$root/folder"
ip link set lo up
cd "$root"
# Not chroot: the kernel refuses user namespaces to what is in one, and units ask for them.
pivot_root . mnt
exec env -i container=holdline-test PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c '
    umount -l /mnt
    mount --make-rshared /
    mount --move /folder /mnt 2>/dev/null || mount --bind /folder /mnt
    exec /lib/systemd/systemd systemd.unit=multi-user.target'
BOOT
mkdir "$stage/root" "$stage/layer"

# Everything in there ends with the first process of the namespace, and that with this script.
unshare --pid --mount --ipc --uts --net --cgroup --fork --kill-child bash "$stage/boot" "$stage" "$tree" "$folder" \
    >"$stage/log" 2>&1 &
booted=$!
trap 'kill -KILL "$booted" 2>/dev/null || true; wait "$booted" 2>/dev/null || true; rm -rf "$stage"' EXIT

inside() {
    local first
    first=$(cat "/proc/$booted/task/$booted/children") && first=${first%% *}
    [ -n "$first" ] && nsenter --target "$first" --all --root="/proc/$first/root" --wd="/proc/$first/root" "$@"
}
for try in $(seq 1 120); do
    if ! kill -0 "$booted" 2>/dev/null; then cat "$stage/log" >&2; exit 1; fi
    # `degraded`: something of the distribution's own did not start in here, which is not what is looked at.
    case $(inside systemctl is-system-running 2>/dev/null || true) in running | degraded) break ;; esac
    if [ "$try" = 120 ]; then echo "in-systemd: it did not boot within a minute" >&2; cat "$stage/log" >&2; exit 1; fi
    sleep 0.5
done
inside env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"
