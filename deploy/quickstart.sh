#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tidemark end to end on this machine, in one command: installs what is missing, builds, then runs
# deploy/quickstart.py, which replicates six disks of three machines, proves every recovery point
# consistent, and shows the same run torn without the hold. No argument needed; any that are given go
# to quickstart.py (for example --test-seed 7). Needs root, /dev/fuse and six free loop devices.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"

say() { printf '\n== %s\n' "$*"; }

say "1/4 what this machine must have"
lacking=()
[ "$(id -u)" = 0 ] || lacking+=("root: disks are mounted; run it with sudo")
[ -r /dev/fuse ] && [ -w /dev/fuse ] || lacking+=("/dev/fuse: load the fuse module ('modprobe fuse')")
[ -r /dev/loop-control ] || lacking+=("/dev/loop-control: load the loop module ('modprobe loop')")
[ ${#lacking[@]} -gt 0 ] || losetup -f >/dev/null 2>&1 || lacking+=("a free loop device: detach some ('losetup -a' lists them)")
if [ ${#lacking[@]} -gt 0 ]; then
    printf 'this machine lacks %s\n' "${lacking[@]}" >&2
    exit 1
fi
echo "root, /dev/fuse and a free loop device are there"

say "2/4 packages"
deploy/install-deps.sh

say "3/4 build into build/"
mkdir -p build
cmake -S . -B build -G Ninja >build/configure.log 2>&1 || {
    cat build/configure.log
    exit 1
}
cmake --build build --target tidemark tidemark-participant tidemark-coordinator tidemark-tap

say "4/4 run"
exec python3 -u deploy/quickstart.py --build build "$@"
