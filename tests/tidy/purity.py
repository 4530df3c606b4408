#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pure archives call nothing that reads a clock, does I/O, starts a thread or looks at the
environment: what `nm -u` lists must be in tests/tidy/pure-symbols.txt or defined in one of them.
They keep no writable data either: no symbol of theirs is in .data or .bss.

usage: purity.py ALLOW-LIST ARCHIVE...   exit 0: pure; 1: each breach on a line of its own
"""
import re
import subprocess
import sys

SANITIZER = re.compile(r"^__(asan|ubsan|tsan|sanitizer|sancov)_")


def nm(option, archive):
    """Yields (object file, class letter, symbol, section)."""
    out = subprocess.run(["nm", "-f", "sysv", *option, archive], capture_output=True, text=True,
                         check=True).stdout
    where = archive
    for line in out.splitlines():
        heading = re.match(r"(?:Undefined s|S)ymbols from (.*):$", line)
        if heading:
            where = heading.group(1)
        fields = [f.strip() for f in line.split("|")]
        if len(fields) == 7 and fields[0] != "Name":
            yield where, fields[2], fields[0], fields[6]


def main():
    if len(sys.argv) < 3:
        print(__doc__)
        return 2
    with open(sys.argv[1], encoding="ascii") as file:
        words = [line.split("#")[0].strip() for line in file]
    allowed = {w for w in words if w}
    archives = sys.argv[2:]
    defined, breaches, seen = set(), [], 0
    for archive in archives:
        for where, kind, name, section in nm(["--defined-only"], archive):
            if kind.isupper():
                defined.add(name)
            writable = section.startswith((".data", ".bss", ".tbss", ".tdata", "*COM*"))
            if (writable and not section.startswith(".data.rel.ro")
                    and not SANITIZER.match(name)):
                breaches.append(f"{where}: writable data \"{name}\"")
    for archive in archives:
        for where, _, name, _ in nm(["-u"], archive):
            seen += 1
            if name not in allowed and name not in defined and not SANITIZER.match(name):
                breaches.append(f"{where}: calls \"{name}\"")
    if seen == 0:
        breaches.append("nothing to check: nm listed no symbol")
    print("\n".join(sorted(set(breaches))) if breaches else
          f"{len(archives)} archives, {seen} references, all allowed")
    return 1 if breaches else 0


sys.exit(main())
