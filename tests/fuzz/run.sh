#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzzes each target for some seconds with clang's libFuzzer, address and undefined sanitizers:
#   tests/fuzz/run.sh [-j JOBS] [SECONDS [TARGET ...]]
# Default: one at a time, 60 s each, all targets. Prints executions, and edges covered by the corpus
# and at the end. Exits non-zero on a finding, whose input stays in build-fuzz/found/: mend the cause
# and add the input to corpora/<target>/. What was learned stays in build-fuzz/learned/.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/tests/fuzz
build=${TIDE_FUZZ_BUILD:-$top/build-fuzz}
usage() {
    echo "usage: tests/fuzz/run.sh [-j JOBS] [SECONDS [TARGET ...]]; JOBS is 1 to 64, SECONDS 1 to 99999" >&2
    exit 2
}
jobs=1
while getopts j: option; do
    [ "$option" = j ] && [[ $OPTARG =~ ^[1-9][0-9]?$ ]] && [ "$OPTARG" -le 64 ] || usage
    jobs=$OPTARG
done
shift $((OPTIND - 1))
seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]{0,4}$ ]] || usage
shift $(($# > 0 ? 1 : 0))
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
    for corpus in "$here"/corpora/*/; do targets+=("$(basename "$corpus")"); done
fi

mkdir -p "$build/found"
cmake -S "$top" -B "$build" -G Ninja -DCMAKE_C_COMPILER=clang -DTIDE_FUZZ=ON >"$build/configure.log" 2>&1 ||
    { cat "$build/configure.log"; exit 1; }
cmake --build "$build" --target fuzz -j 2 >"$build/build.log" 2>&1 || { cat "$build/build.log"; exit 1; }
for target in "${targets[@]}"; do
    [ -x "$build/tests/fuzz_$target" ] || { echo "no target $target" >&2; exit 2; }
done

fuzz() { # target; its status is the fuzzer's
    local target=$1 status=0 executed first last
    local learned=$build/learned/$target log=$build/$target.log dictionary=$here/dictionaries/$target.dict
    local options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384
        -print_final_stats=1 -artifact_prefix="$build/found/$target-")
    mkdir -p "$learned"
    [ ! -f "$dictionary" ] || options+=(-dict="$dictionary")
    # The driver's own limit of time is backed by one from outside.
    timeout -k 10 $((seconds + 60)) "$build/tests/fuzz_$target" "${options[@]}" "$learned" \
        "$here/corpora/$target" >"$log" 2>&1 || status=$?
    executed=$(sed -n 's/^stat::number_of_executed_units: //p' "$log")
    first=$(sed -n 's/.*INITED.* cov: \([0-9]*\).*/\1/p' "$log" | head -n 1)
    last=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
    printf '%-16s %12s %14s %12s\n' "$target" "${executed:--}" "${first:--}" "${last:--}"
    return "$status"
}

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
declare -A running=()
failed=()
reap() { # one that has ended
    local pid status=0
    wait -n -p pid || status=$?
    if [ "$status" != 0 ]; then
        failed+=("${running[$pid]}")
        tail -n 40 "$build/${running[$pid]}.log" >&2
    fi
    unset "running[$pid]"
}
printf '%-16s %12s %14s %12s\n' target executions 'corpus edges' 'edges at end'
for target in "${targets[@]}"; do
    [ ${#running[@]} -lt "$jobs" ] || reap
    fuzz "$target" &
    running[$!]=$target
done
while [ ${#running[@]} -gt 0 ]; do reap; done
if [ ${#failed[@]} -gt 0 ]; then
    echo "found something: ${failed[*]}; inputs in $build/found" >&2
    exit 1
fi
