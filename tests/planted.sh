#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each planted bug (common/core/planted.h) is caught by a checker of the simulator, at a seed that is
# clean without it; those that stand in front of a second line change nothing; and no binary of a
# release has the switch. Two at a time. usage: tests/planted.sh [BUILD]
set -u

# One bug, one line. 3: unsafe; 4: no points come any more.
if [ "${1:-}" = --one ]; then
    sim=$2
    bug=$3
    out=$("$sim" swarm --seeds 1..600 --planted "$bug")
    status=$?
    seed=$(echo "$out" | sed -n 's/^seed \([0-9]*\),.*/\1/p')
    if [ "$status" != 3 ] && [ "$status" != 4 ]; then
        echo "$bug: not caught (exit status $status)"
    elif ! "$sim" run --seed "$seed" >/dev/null; then
        echo "$bug: seed $seed is not clean without it"
    else
        echo "$bug: caught by $(echo "$out" | sed -n '1s/[ :].*//p') at seed $seed"
    fi
    exit 0
fi
if [ "${1:-}" = --harmless ]; then
    if "$2" swarm --seeds 1..60 --disks records --planted "$3" >/dev/null; then
        echo "$3: harmless alone, as expected"
    else
        echo "$3: not harmless (exit status $?)"
    fi
    exit 0
fi

build=${1:-build}
sim=$build/tests/tidemark-sim-planted
bugs=$("$sim" --planted list) || exit 1
harmless=$("$sim" --planted harmless) || exit 1

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

lines=$(echo "$bugs" | xargs -n 1 -P 2 "$0" --one "$sim"
    echo "$harmless" | xargs -n 1 -P 2 "$0" --harmless "$sim")
echo "$lines"
all=$(echo "$bugs" "$harmless" | wc -w)
caught=$(echo "$lines" | grep -c ': caught by ')
alone=$(echo "$lines" | grep -c ': harmless alone')
echo "planted: $caught caught, $alone harmless alone, of $all"
[ $((caught + alone)) = "$all" ]
