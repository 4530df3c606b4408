#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each planted bug (common/core/planted.h) is caught by a checker of the simulator, at a seed that is
# clean without it; and no binary of a release has the switch. usage: tests/planted.sh [BUILD]
set -u
build=${1:-build}
sim=$build/tests/tidemark-sim-planted
bugs=$("$sim" --planted list) || exit 1
all=0
caught=0

if ! nm "$sim" | grep -q tide_planted; then
    echo "planted.sh: $sim has no switch, so looking for it in the others says nothing" >&2
    exit 1
fi
for binary in "$build"/bin/*; do
    [ -f "$binary" ] || continue
    if nm -a "$binary" 2>/dev/null | grep -q tide_planted; then
        echo "planted.sh: $binary has the switch for planted bugs" >&2
        exit 1
    fi
done

for bug in $bugs; do
    all=$((all + 1))
    out=$("$sim" swarm --seeds 1..1000 --planted "$bug")
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
