#!/bin/sh
# Boots systemd as process 1 of namespaces of its own, in the network namespace that this runs in.
#
# Usage: systemd.sh DIRECTORY PROGRAM. DIRECTORY is empty and becomes the mount point of the new root; PROGRAM is
# installed there as /usr/bin/lockstep. Nothing of this machine can be written from inside, besides what is in the
# network namespace: /usr is shared read-only, /etc is a copy, the rest is memory. SIGTERM ends all of it.
set -eu
directory=$1
program=$2

if [ "${3:-}" = inside ]; then
  root=$directory/root
  mkdir "$root" "$directory/usr" "$directory/usr/bin"
  mount -t tmpfs -o mode=755 tmpfs "$root"
  for name in usr etc proc sys dev run root home mnt old var var/lib var/log; do
    mkdir "$root/$name"
  done
  mkdir -m 1777 "$root/tmp" "$root/var/tmp"
  for link in bin sbin lib lib64; do
    [ ! -L "/$link" ] || ln -s "usr/$link" "$root/$link"
  done
  : >"$directory/usr/bin/lockstep"
  chmod 755 "$directory/usr/bin/lockstep"
  mount -t overlay -o "ro,lowerdir=$directory/usr:/usr" overlay "$root/usr"
  mount --bind "$program" "$root/usr/bin/lockstep"
  # No service of this machine, and of systemd's own only what keeps a journal.
  cp -a /etc/. "$root/etc"
  rm -rf "$root/etc/systemd" "$root/etc/fstab"
  mkdir -p "$root/etc/systemd/system"
  for target in sysinit basic multi-user; do
    printf '[Unit]\nDescription=%s\n' "$target" >"$root/etc/systemd/system/$target.target"
  done
  printf 'Wants=systemd-journald.socket\n' >>"$root/etc/systemd/system/sysinit.target"
  printf 'Requires=basic.target\nAfter=basic.target\n' >>"$root/etc/systemd/system/multi-user.target"
  ln -s /dev/null "$root/etc/systemd/system/systemd-journald-audit.socket"
  units=$root/usr/lib/systemd
  for nothing in "$units"/system/*.target.wants "$units/system-generators"; do
    [ ! -d "$nothing" ] || mount -t tmpfs -o ro,mode=755 tmpfs "$nothing"
  done

  # The kernel's settings are this machine's, but for those of the network namespace.
  mount -t proc proc "$root/proc"
  mount --bind "$root/proc/sys" "$root/proc/sys"
  mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
  mount -o remount,bind,ro "$root/proc/sys"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
  cd "$root"
  pivot_root . old
  umount -l /old
  rmdir /old
  exec env -i container=lockstep-test PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --system --unit=multi-user.target \
    --log-target=journal --show-status=no
fi

mount -t tmpfs -o mode=755 tmpfs "$directory"
mkdir "$directory/cgroup"
mount -t cgroup2 cgroup2 "$directory/cgroup"
group=$directory/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/lockstep-test-$$
mkdir "$group"
# A shell that is not the group's, to clear away behind it.
sh -c 'echo $$ >"$1/cgroup.procs"
  exec setpriv --pdeathsig KILL unshare --cgroup --mount --propagation private --pid --fork --kill-child --uts --ipc \
    sh "$2" "$3" "$4" inside' - "$group" "$0" "$directory" "$program" &
machine=$!
# Process 1 first, whose end is that of all others; its parent waits for it.
trap 'kill -KILL $(cat /proc/$machine/task/$machine/children) || kill -KILL $machine' TERM
status=0
wait $machine || status=$?
trap '' TERM
# A signal ends the first wait early.
wait $machine || true
find "$group" -depth -type d -exec rmdir {} \;
exit "$status"
