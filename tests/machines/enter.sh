#!/bin/sh
# Makes a folder the root of a machine of its own and runs a program there: enter.sh ROOT MASKED PROGRAM [ARG...]
#
# To be called as the first process of new mount, PID, IPC and UTS namespaces (fresh_debian.py does): all
# that is mounted and started here ends with that process. pivot_root, not chroot: a kernel lets nobody in
# a chroot make the user namespaces that bubblewrap needs. MASKED: files below ROOT, one a line, that are to
# be empty and not executable.
set -eu
root=$1
masked=$2
shift 2

mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o nosuid,nodev,mode=0755 run run
mount -t tmpfs -o nosuid,mode=0755 dev dev
mkdir dev/pts dev/shm
mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
for device in null zero full random urandom tty; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
: >dev/shm/.empty
printf '%s\n' "$masked" | while read -r file; do
    test -z "$file" || mount --bind dev/shm/.empty ".$file"
done
rm dev/shm/.empty

mkdir -p .host
pivot_root . .host
cd /
umount -l /.host
rmdir /.host
# not exec: the first process of a PID namespace must collect what others leave behind
"$@" || exit $?
exit 0
