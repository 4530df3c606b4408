#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each planted bug (common/core/planted.h) is caught by a checker of the simulator, at a seed that is
# clean without it; and no binary of a release has the switch, nor the fault points of
# common/io/faultpoint.h. usage: tests/planted.sh [BUILD]
set -u
build=${1:-build}
sim=$build/tests/tidemark-sim-planted
bugs=$("$sim" --planted list) || exit 1
all=0
caught=0

has() { nm -a "$1" 2>/dev/null | grep -q " $2\$"; } # BINARY SYMBOL

for pair in "$sim:tide_planted" "$build/tests/tidemark-participant-faults:fault_point" \
    "$build/tests/tidemark-coordinator-faults:fault_point"; do
    if ! has "${pair%:*}" "${pair##*:}"; then
        echo "planted.sh: ${pair%:*} has no ${pair##*:}, so looking for it in others says nothing" >&2
        exit 1
    fi
done
for binary in "$build"/bin/*; do
    [ -f "$binary" ] || continue
    for symbol in tide_planted fault_point; do
        if has "$binary" "$symbol"; then
            echo "planted.sh: $binary has $symbol, which only test builds may have" >&2
            exit 1
        fi
    done
done

for bug in $bugs; do
    all=$((all + 1))
    out=$("$sim" swarm --seeds 1..300 --planted "$bug")
    status=$?
    seed=$(echo "$out" | sed -n 's/^seed \([0-9]*\),.*/\1/p')
    if [ "$status" != 3 ]; then
        echo "$bug: not caught (exit status $status)"
    elif ! "$sim" run --seed "$seed" >/dev/null; then
        echo "$bug: seed $seed is not clean without it"
    else
        caught=$((caught + 1))
        echo "$bug: caught by $(echo "$out" | sed -n '1s/ at .*//p') at seed $seed"
    fi
done
echo "planted: $caught of $all caught"
[ "$caught" = "$all" ]
