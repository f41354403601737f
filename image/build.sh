#!/bin/sh
# build.sh ARCHITECTURE TARGET: compiles the server for amd64 or arm64 (the names of image builders), whatever this machine is, and puts the root
# file system of the image together in the empty or new folder TARGET. The program is static. Needs rustup, cargo-zigbuild and the Zig that it
# uses as compiler and linker of C; for both architectures the same way.
set -eu

usage() {
  echo "usage: $0 amd64|arm64 TARGET" >&2
  exit 2
}

[ $# -eq 2 ] || usage
case $1 in
  amd64) target=x86_64-unknown-linux-musl ;;
  arm64) target=aarch64-unknown-linux-musl ;;
  *) usage ;;
esac
cd "$(dirname "$0")/.."

rustup target add "$target"
CARGO_PROFILE_RELEASE_STRIP=symbols cargo zigbuild --release --locked --bin oap --target "$target"
image/rootfs.sh "${CARGO_TARGET_DIR:-target}/$target/release/oap" "$2"
