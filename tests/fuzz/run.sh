#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzzes each target for some seconds with clang's libFuzzer, address and undefined sanitizers:
#   tests/fuzz/run.sh [SECONDS [TARGET ...]]
# Default: 60 s each, all targets, one after the other. Prints executions, and edges covered by the
# corpus and at the end. Exits non-zero on a finding, whose input stays in build-fuzz/found/: mend
# the cause and add the input to corpora/<target>/. What was learned stays in build-fuzz/learned/.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/tests/fuzz
build=${TIDE_FUZZ_BUILD:-$top/build-fuzz}
seconds=${1:-60}
if ! [[ $seconds =~ ^[1-9][0-9]{0,4}$ ]]; then
    echo "usage: tests/fuzz/run.sh [SECONDS [TARGET ...]]; SECONDS is 1 to 99999" >&2
    exit 2
fi
shift $(($# > 0 ? 1 : 0))
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
    for corpus in "$here"/corpora/*/; do targets+=("$(basename "$corpus")"); done
fi

mkdir -p "$build/found"
cmake -S "$top" -B "$build" -G Ninja -DCMAKE_C_COMPILER=clang -DTIDE_FUZZ=ON >"$build/configure.log" 2>&1 ||
    { cat "$build/configure.log"; exit 1; }
cmake --build "$build" --target fuzz -j 2 >"$build/build.log" 2>&1 || { cat "$build/build.log"; exit 1; }

failed=()
printf '%-16s %12s %14s %12s\n' target executions 'corpus edges' 'edges at end'
for target in "${targets[@]}"; do
    program=$build/tests/fuzz_$target
    [ -x "$program" ] || { echo "no target $target" >&2; exit 2; }
    learned=$build/learned/$target
    log=$build/$target.log
    mkdir -p "$learned"
    options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384
        -print_final_stats=1 -artifact_prefix="$build/found/$target-")
    dictionary=$here/dictionaries/$target.dict
    [ ! -f "$dictionary" ] || options+=(-dict="$dictionary")
    # The driver's own limit of time is backed by one from outside.
    status=0
    timeout -k 10 $((seconds + 60)) "$program" "${options[@]}" "$learned" "$here/corpora/$target" \
        >"$log" 2>&1 || status=$?
    executed=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
    first=$(sed -n 's/.*INITED.* cov: \([0-9]*\).*/\1/p' "$log" | head -n 1)
    last=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
    printf '%-16s %12s %14s %12s\n' "$target" "${executed:--}" "${first:--}" "${last:--}"
    if [ "$status" != 0 ]; then
        failed+=("$target")
        tail -n 40 "$log" >&2
    fi
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "found something: ${failed[*]}; inputs in $build/found" >&2
    exit 1
fi
