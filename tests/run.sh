#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds into build/, runs all tests through ctest, and then fuzzes each target
# for a minute. No argument needed; any that are given go to ctest, and nothing is fuzzed then (for
# example: tests/run.sh -L unit, tests/run.sh -R gate). TIDE_FUZZ_SECONDS=n fuzzes for n s a target, 0
# not at all.
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

say "1/4 packages that the build and the tests need"
deploy/install-deps.sh

say "2/4 build into build/ (gcc, warnings are errors)"
mkdir -p build
cmake -S . -B build -G Ninja >build/configure.log 2>&1 || { cat build/configure.log; exit 1; }
cmake --build build

say "3/4 tests"
ctest --test-dir build --output-on-failure -j "$(nproc)" "$@"

seconds=${TIDE_FUZZ_SECONDS:-60}
if [ $# -gt 0 ] || [ "$seconds" = 0 ]; then
    exit 0
fi
say "4/4 fuzzing with clang's libFuzzer, $seconds s a target"
tests/fuzz/run.sh -j "$(nproc)" "$seconds"
