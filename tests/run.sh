#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds into build/, and runs all tests through ctest. No argument needed;
# any that are given go to ctest (for example: tests/run.sh -L unit, tests/run.sh -R gate).
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"

say() { printf '\n== %s\n' "$*"; }

# What the machine lacks is said at once, and by name.
lacking=()
[ "$(id -u)" = 0 ] || lacking+=("root (file systems are mounted, small tmpfs are made)")
[ -r /dev/fuse ] && [ -w /dev/fuse ] || lacking+=("/dev/fuse")
if [ ${#lacking[@]} -gt 0 ]; then
    printf 'this machine lacks: %s\nremedy: run as root on a machine that has it\n' "${lacking[@]}" >&2
    exit 1
fi

say "1/3 packages that the build and the tests need"
deploy/install-deps.sh

say "2/3 build into build/ (gcc, warnings are errors)"
mkdir -p build
cmake -S . -B build -G Ninja >build/configure.log 2>&1 || { cat build/configure.log; exit 1; }
cmake --build build

say "3/3 tests"
exec ctest --test-dir build --output-on-failure -j "$(nproc)" "$@"
