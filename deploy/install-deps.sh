#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian 12 packages that building, testing and the quickstart need; does nothing, and
# needs neither root nor the network, where all are there. The one list of packages.
set -euo pipefail

packages=(
    # to build
    build-essential clang cmake libclang-rt-14-dev ninja-build pkg-config protobuf-c-compiler python3
    libcmocka-dev libcurl4-openssl-dev libcyaml-dev libevent-dev libinih-dev libisal-dev
    libjansson-dev libnbd-dev libnng-dev libprotobuf-c-dev libsmartcols-dev libsqlite3-dev
    libssl-dev libyaml-dev libzstd-dev nbdkit-plugin-dev uthash-dev
    # to run: taps, mounted disks, certificates looked at
    e2fsprogs fuse3 libnbd-bin mount nbdkit openssl util-linux xfsprogs
    # to test: QEMU's NBD client in front of a tap; machines in network namespaces; the model of the round;
    # a second reader of boxes
    iproute2 nftables qemu-utils spin python3-cryptography python3-zstandard
)

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "all ${#packages[@]} packages are installed"
    exit 0
fi
echo "missing packages: ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "no apt-get here: install what corresponds to them by hand (Debian 12 is what is tested)" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "not root: run 'apt-get install ${missing[*]}' as root, then again" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${missing[@]}"
