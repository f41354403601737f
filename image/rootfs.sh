#!/bin/sh
# rootfs.sh BINARY TARGET: puts the root file system of the image together in the empty or new folder TARGET. BINARY must need nothing else:
# a static one. The Dockerfile and the tests use this. Paths are those of the original's image.
set -eu

if [ $# -ne 2 ]; then
  echo "usage: $0 BINARY TARGET" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")/.." && pwd)
binary=$1
root=$2
home=$root/skywalking

mkdir -p "$home/bin" "$home/ext-config" "$home/ext-libs" "$home/data" "$root/etc" "$root/tmp" "$root/proc" "$root/dev"
cp "$binary" "$home/bin/oap"
chmod 755 "$home/bin/oap"
# Probes call this one, which is the same program under another name.
ln -s oap "$home/bin/swctl"
cp -R "$here/config" "$home/config"
cp "$here/LICENSE" "$home/LICENSE"
printf 'root:x:0:0:root:/skywalking:/sbin/nologin\noap:x:1000:1000:oap:/skywalking:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\noap:x:1000:\n' >"$root/etc/group"
# Names of /etc/hosts come before those of DNS.
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

find "$root" -type d -exec chmod 755 {} +
find "$home/config" -type f -exec chmod 644 {} +
chmod 1777 "$root/tmp"
# Also for users with a number of their own, who are in group 0 on some platforms.
chmod 775 "$home/data"
if [ "$(id -u)" -eq 0 ]; then
  chown -R 0:0 "$root"
  chown 1000:0 "$home/data"
fi
