#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Searches every instance of round.pml, and every protection taken away, with spin: one line each, then
# `model: N of N as expected`. An instance counts only if its search was complete, or found what it
# was to find. Exit 0 only if all are as expected. No argument; --fires shows that each way to fail fails.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for tool in spin gcc; do
    if ! command -v "$tool" >/dev/null; then
        echo "\"$tool\" is not installed: run deploy/install-deps.sh" >&2
        exit 1
    fi
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
depth=1000
total=0
good=0

# The verdict of one search: holds, or which assertion failed; incomplete counts as neither.
verdict() {
    if grep -q '^pan:.*assertion violated' "$1"; then
        case $(grep '^pan:.*assertion violated' "$1") in
        *gaps*) echo point ;;
        *torn_cause*) echo torn ;;
        *"answer[q]"* | *all*right*) echo changed ;;
        *age*) echo late ;;
        *) echo other ;;
        esac
    elif grep -q 'too small\|out of memory\|reached -DMEMLIM\|not completed\|pan: error\|aborting' "$1" ||
        ! grep -q 'errors: 0$' "$1"; then
        echo incomplete
    else
        echo holds
    fi
}

# search OPTIMISE OPTION...: in the work folder.
search() {
    local optimise=$1
    shift
    cd "$work" && rm -f pan* &&
        spin "$@" -a "$here/round.pml" &&
        gcc "$optimise" -w -DSAFETY -DNOREDUCE -DMEMLIM=3500 -o pan pan.c &&
        ./pan "-m$depth" -w23
}

# check WHAT EXPECTED OPTION...: a broken model need not be compiled well, it breaks at once.
check() {
    local what=$1 expected=$2 got states how optimise=-O0
    shift 2
    [ "$expected" != holds ] || optimise=-O2
    total=$((total + 1))
    search "$optimise" "$@" >"$work/out" 2>&1 || true
    got=$(verdict "$work/out")
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$work/out")
    [ "$got" = "$expected" ] && good=$((good + 1))
    case $got in
    holds) how=complete ;;
    incomplete)
        how=incomplete
        sed 's/^/    /' "$work/out" >&2
        ;;
    *) how=found ;;
    esac
    printf '%-46s %8s states  %-10s expected %-8s got %-10s %s\n' "$what" "${states:-?}" "$how" \
        "$expected" "$got" "$([ "$got" = "$expected" ] || echo DIFFERS)"
}

u=-DUNTRUSTED
if [ "${1:-}" = --fires ]; then
    check "a broken model that is said to hold" holds $u -DOFF_NONCE
    check "a model that holds, said to be torn" torn $u
    check "the wrong property broken" late $u -DOFF_NONCE
    depth=10
    check "a search that is not deep enough" holds $u
    check "a model that is none" holds $u -DROUNDS=none
    echo "model: $((total - good)) of $total wrong expectations noticed"
    [ "$good" = 0 ]
    exit
fi

# What holds.
check "untrusted leader" holds $u
check "untrusted leader, 1 kill" holds $u -DCRASHES=1
check "untrusted leader, 2 kills" holds $u -DCRASHES=2
check "untrusted leader, 1 kill or power cut" holds $u -DCRASHES=1 -DPOWER
check "untrusted leader, 1 gap and its copy" holds $u -DGAPS=1
check "untrusted leader, 1 gap, 1 kill" holds $u -DGAPS=1 -DCRASHES=1
check "two leaders, both untrusted" holds $u -DROUNDS=2
check "untrusted leader, partial sets" holds $u -DPARTIAL
check "untrusted leader, partial sets, 1 kill" holds $u -DPARTIAL -DCRASHES=1
check "leader and members as in the code" holds
check "leader and members, 1 kill of tap or daemon" holds -DCRASHES=1
check "budget, untrusted leader" holds $u -DTIMED
check "budget, two untrusted leaders" holds $u -DTIMED -DROUNDS=2
check "budget, untrusted leader, 1 kill" holds $u -DTIMED -DCRASHES=1
# That there is something to find: points exist.
check "a point exists, untrusted leader" point $u -DREACH
check "a point exists, leader and members" point -DREACH
check "a point exists after a kill" point $u -DCRASHES=1 -DREACH
check "a point exists after a gap and its copy" point $u -DGAPS=1 -DREACH
check "a partial point exists" point $u -DPARTIAL -DREACH
# One protection taken away.
check "off: bookmark and hold one step" torn $u -DOFF_ONE_STEP
check "off: the tap decides 'still holding'" torn $u -DOFF_TAP_DECIDES
check "off: a nonce nobody can guess" torn $u -DOFF_NONCE
check "off: the reader compares H" torn $u -DOFF_COMPARE
check "off: whole and gap" torn $u -DGAPS=1 -DOFF_GAP
check "off: restart, by tap and reader" torn $u -DCRASHES=1 -DOFF_TAP_RESTART -DOFF_READER_ATTACH
check "off: yes is final" changed $u -DCRASHES=1 -DOFF_FINAL
check "off: only what is synced is shipped" changed $u -DCRASHES=1 -DPOWER -DOFF_SYNCED
check "off: the set in the bookmark" changed $u -DPARTIAL -DOFF_SET
check "off: letting go before the log" late $u -DTIMED -DOFF_LET_GO_FIRST
check "off: the tap keeps the budget, not its daemon" late $u -DTIMED -DOFF_TAP_EXPIRY
check "off: HOLD heard again does not re-arm" late $u -DTIMED -DOFF_BUDGET_ONCE
check "off: HELD from all, and H compared" torn -DOFF_ALL_HELD -DOFF_COMPARE
# Second lines: taken away alone, nothing breaks.
check "off: restart, by the tap alone" holds $u -DCRASHES=1 -DOFF_TAP_RESTART
check "off: restart, by the reader alone" holds $u -DCRASHES=1 -DOFF_READER_ATTACH
check "off: HELD from all, H still compared" holds -DOFF_ALL_HELD

echo "model: $good of $total as expected"
[ "$good" = "$total" ]
