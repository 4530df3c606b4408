#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each planted bug (common/core/planted.h) is caught by a checker of the simulator, at a seed that is
# clean without it; those that stand in front of a second line change nothing; and no binary of a
# release has the switch, nor the fault points of common/io/faultpoint.h. Two at a time.
# usage: tests/planted.sh [BUILD]
set -u

# One bug, one line. 3: unsafe; 4: no points come any more. Bugs of the round show sooner where disks are
# lists of records; the others need bytes.
if [ "${1:-}" = --one ]; then
    sim=$2
    bug=$3
    disks=records
    out=$("$sim" swarm --seeds 1..100 --disks $disks --planted "$bug")
    status=$?
    if [ "$status" = 0 ]; then
        disks=bytes
        out=$("$sim" swarm --seeds 1..600 --disks $disks --planted "$bug")
        status=$?
    fi
    seed=$(echo "$out" | sed -n 's/^seed \([0-9]*\),.*/\1/p')
    if [ "$status" != 3 ] && [ "$status" != 4 ]; then
        echo "$bug: not caught (exit status $status)"
    elif ! "$sim" run --seed "$seed" --disks $disks >/dev/null; then
        echo "$bug: seed $seed is not clean without it"
    else
        echo "$bug: caught by $(echo "$out" | sed -n '1s/[ :].*//p') at seed $seed, disks $disks"
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

lines=$(echo "$bugs" | xargs -n 1 -P 2 "$0" --one "$sim"
    echo "$harmless" | xargs -n 1 -P 2 "$0" --harmless "$sim")
echo "$lines"
all=$(echo "$bugs" | wc -w)
passed_over=$(echo "$harmless" | wc -w)
caught=$(echo "$lines" | grep -c ': caught by ')
alone=$(echo "$lines" | grep -c ': harmless alone')
echo "planted: $caught of $all caught; $alone of $passed_over harmless alone, as expected"
[ "$caught" = "$all" ] && [ "$alone" = "$passed_over" ]
