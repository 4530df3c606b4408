#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The long tests: tests/soak.sh [MINUTES [PART...]], 120 and all unless told, after the build.
#   leaks   a sixth of the time: holds that outlast their budget (84 rounds a minute of it all, or TIDE_LEAK_ROUNDS)
#   seeds   the simulator, 167 seeds a minute of it all (or TIDE_SEEDS_COUNT), from TIDE_SEED on, on all processors
#   rounds  random rounds, those of 256 light members too
#   kills   a tenth: taps, daemons and coordinators under kill -9 and nemeses, each time with another seed
#   fuzz    half: each target of tests/fuzz
# The first finding ends it, with status 1 and the command that repeats it.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
usage() {
    echo "usage: tests/soak.sh [MINUTES [PART...]]; MINUTES is 1 to 9999, PART leaks, seeds, rounds, kills or fuzz" >&2
    exit 2
}
minutes=${1:-120}
[[ $minutes =~ ^[1-9][0-9]{0,3}$ ]] || usage
shift $(($# > 0 ? 1 : 0))
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(leaks seeds rounds kills fuzz)
for part in "${parts[@]}"; do
    case $part in leaks | seeds | rounds | kills | fuzz) ;; *) usage ;; esac
done
export TIDE_SOURCE=$top TIDE_BUILD=${TIDE_BUILD:-$top/build}
log=$TIDE_BUILD/soak-$$.log
seed=${TIDE_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
unset TIDE_SEED

say() { printf '[%5d s] %s\n' "$SECONDS" "$*"; }

run() { # command as one word, for a person to repeat; it ends by itself or in so many seconds (600)
    local status=0
    timeout -k 10 "${2:-600}" bash -c "$1" >"$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then # 77: skipped, this machine lacks something
        tail -n 60 "$log" >&2
        say "FOUND something; to repeat it, beside other load if need be: TIDE_SOURCE=$top TIDE_BUILD=$TIDE_BUILD $1"
        exit 1
    fi
}

mkdir -p "$TIDE_BUILD"
say "build"
cmake -S . -B "$TIDE_BUILD" -G Ninja >"$log" 2>&1 || { cat "$log"; exit 1; }
cmake --build "$TIDE_BUILD" >"$log" 2>&1 || { tail -n 40 "$log"; exit 1; }

leaks() {
    local rounds=${TIDE_LEAK_ROUNDS:-$((minutes * 84))}
    say "holds that leak: $rounds rounds, one each 110 ms, with seed $seed"
    run "python3 tests/system/leaks.py --rounds $rounds --seed $seed" $((rounds / 2 + 600))
    cat "$log"
}

seeds() {
    local count=${TIDE_SEEDS_COUNT:-$((minutes * 167))} jobs at size
    jobs=$(nproc)
    size=500
    say "simulated clusters: $count seeds from $seed on, $jobs at a time"
    for ((at = 0; at < count; at += size)); do
        echo "$((seed + at))..$((seed + (at + size < count ? at + size : count) - 1))"
    done | xargs -P "$jobs" -I RANGE "$TIDE_BUILD/bin/tidemark-sim" swarm --seeds RANGE >"$log" 2>&1 || {
        grep -v "seeds: \|^trace" "$log" | head -n 40 >&2
        say "FOUND something: the line with \"again:\" says how to repeat it"
        exit 1
    }
    say "$(awk '/ seeds: /{s += $1; r += $3; p += $5} END {printf "%d seeds: %d rounds, %d points", s, r, p}' \
        "$log"); nothing unsafe, all live"
    seed=$((seed + count))
}

rounds() {
    local until=$((SECONDS + minutes * 6)) begun=$seed
    say "random rounds for $((minutes * 6)) s, from seed $seed on"
    while [ $SECONDS -lt $until ]; do
        run "TIDE_SEEDS=$seed-$((seed + 199)) $TIDE_BUILD/tests/test_rounds_random"
        run "$TIDE_BUILD/tests/test_crowd 256 60"
        seed=$((seed + 200))
    done
    say "$((seed - begun)) seeds of random rounds, none torn but where nothing was held"
}

kills() {
    local until=$((SECONDS + minutes * 6)) runs=0 test
    say "kill -9 for $((minutes * 6)) s, from seed $seed on"
    while [ $SECONDS -lt $until ]; do
        for test in "$TIDE_BUILD/tests/test_tap_crash" "TIDE_ROUNDS=6 python3 tests/system/test_tap_qemu.py" \
            "python3 tests/system/daemon.py kills" "python3 tests/system/nemesis.py kill-any" \
            "python3 tests/system/nemesis.py mounted" "python3 tests/system/nemesis.py memory"; do
            [ $SECONDS -lt $until ] || break
            run "TIDE_SEED=$seed $test"
            seed=$((seed + 1))
            runs=$((runs + 1))
        done
    done
    say "$runs runs under kill -9"
}

fuzz() {
    local count jobs seconds
    count=$(find tests/fuzz/corpora -mindepth 1 -maxdepth 1 -type d | wc -l)
    jobs=$(nproc)
    seconds=$((minutes * 30 * (jobs < count ? jobs : count) / count))
    seconds=$((seconds > 0 ? seconds : 1))
    say "fuzzing $count targets, $jobs at a time, for $seconds s each"
    tests/fuzz/run.sh -j "$jobs" "$((seconds < 99999 ? seconds : 99999))"
}

for part in "${parts[@]}"; do
    "$part"
done
say "nothing found: ${parts[*]}"
