#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Model and code refer to each other: the state names of proto/model/round.pml are those of the
machines' enums and the reverse, and each machine's header names its proctype.

usage: model.py ROOT             exit 0: they do; 1: each breach on a line of its own
       model.py --self-test ROOT exit 0: each rule fires on texts made to break it
"""
import pathlib
import re
import sys

MODEL = "proto/model/round.pml"
# proctype -> header that names it, file with the enum, name of the enum, prefix of its states
MACHINES = {
    "gate": ("participant/core/gate.h", "participant/core/gate.h", "gate_state", "GATE"),
    "member": ("participant/core/member.h", "participant/core/member.h", "member_state", "MEMBER"),
    "leader": ("participant/core/leader.h", "participant/core/leader_own.h", "phase", "PHASE"),
}


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def check(texts):
    model = without_comments(texts[MODEL])
    left_out = re.findall(r"Not modelled: (\w+)", texts[MODEL])
    for machine, (header, source, enum, prefix) in MACHINES.items():
        body = re.search(rf"enum {enum} \{{(.*?)\}};", without_comments(texts[source]), re.S)
        if not body:
            yield f"{source}: no enum {enum}"
            continue
        states = set(re.findall(rf"\b{prefix}_\w+", body.group(1)))
        modelled = set(re.findall(rf"^#define ({prefix}_\w+) \d+\s*$", model, re.M))
        for name in sorted(modelled - states):
            yield f"{MODEL}: {name} is no state of enum {enum} in {source}"
        for name in sorted(states - modelled):
            if name not in left_out:
                yield f"{MODEL}: lacks {name} of enum {enum} in {source} (or say \"Not modelled: {name}\")"
        for name in sorted(modelled):
            if len(re.findall(rf"\b{name}\b", model)) < 2:
                yield f"{MODEL}: {name} is defined and not used"
        if f"{MODEL}, proctype {machine}," not in texts[header]:
            yield f"{header}: does not name \"{MODEL}, proctype {machine},\""
        if not re.search(rf"^proctype {machine}\(", model, re.M):
            yield f"{MODEL}: no proctype {machine}"


def self_test(texts):
    gate = "participant/core/gate.h"
    breaks = [
        (MODEL, "#define GATE_SEALING 2", "#define GATE_ASLEEP 2", "GATE_ASLEEP is no state"),
        (MODEL, "#define GATE_SEALING 2", "#define GATE_ASLEEP 2", "lacks GATE_SEALING"),
        (MODEL, "Not modelled: MEMBER_DELAY", "Not modelled:", "lacks MEMBER_DELAY"),
        (MODEL, "#define PHASE_SEALING 2", "#define PHASE_SEALING 2\n#define PHASE_X 3", "PHASE_X is"),
        (MODEL, "proctype member(", "proctype members(", "no proctype member"),
        (gate, "GATE_SEALING = 2,", "GATE_SEALING = 2, GATE_ASLEEP,", "lacks GATE_ASLEEP"),
        (gate, "proctype gate,", "proctype gates,", "does not name"),
        (gate, "enum gate_state {", "enum gate_states {", "no enum gate_state"),
    ]
    missed = 0
    for path, old, new, want in breaks:
        found = list(check({**texts, path: texts[path].replace(old, new)}))
        if not any(want in line for line in found):
            print(f"self-test: {path} with {new!r}: wanted {want!r}, found {found}")
            missed += 1
    used = texts[MODEL].replace("= MEMBER_RELEASED", "= 3")
    if not any("defined and not used" in line for line in check({**texts, MODEL: used})):
        print("self-test: a state that is not used did not show")
        missed += 1
    return 1 if missed else 0


def main():
    root = pathlib.Path(sys.argv[-1])
    paths = {MODEL} | {p for header, source, _, _ in MACHINES.values() for p in (header, source)}
    texts = {path: (root / path).read_text() for path in paths}
    if sys.argv[1] == "--self-test":
        return self_test(texts)
    breaches = list(check(texts))
    print("\n".join(breaches) if breaches else "model and code name the same states")
    return 1 if breaches else 0


sys.exit(main())
