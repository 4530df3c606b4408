#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which way includes may point (README.md, "Layout"), and the small house rules of files.

usage: includes.py ROOT        exit 0: clean; 1: each breach on a line of its own
       includes.py --self-test exit 0: each rule fires on a tree made to break it
"""
import pathlib
import re
import subprocess
import sys
import tempfile

# folder -> folders whose headers it may include (its own is always allowed). The longest matching
# folder holds. Two lists, so that both directions of a mistake show: ours and the libraries'.
OURS = {
    "common/core": [],
    "common/hrl": ["common/core"],
    "common/wire": ["common/core", "proto"],
    "common/io": ["common/core", "common/hrl", "common/wire"],
    "participant/core": ["common/core", "common/hrl"],
    "participant/tap": ["common/core", "common/hrl", "participant/core/gate.h"],
    "participant": ["participant/core", "common/core", "common/hrl", "common/wire", "common/io"],
    "coordinator/core": ["common/core", "common/hrl"],
    "coordinator": ["coordinator", "common/core", "common/hrl", "common/wire", "common/io"],
    "tests/lib": ["tests/lib", "common/core", "common/hrl", "common/wire", "participant/core",
                  "coordinator/core"],
}
PURE_SYSTEM = {"assert.h", "inttypes.h", "limits.h", "stdarg.h", "stdbool.h", "stddef.h",
               "stdint.h", "stdio.h", "stdlib.h", "string.h", "sys/queue.h"}
# Extra system headers, folder by folder or for one file; folders not named here take any.
SYSTEM = {
    "common/core/sha.c": {"openssl/evp.h"},
    "coordinator/core/box.c": {"openssl/crypto.h", "zstd.h", "zstd_errors.h"},
    "coordinator/core/box_cipher.c": {"openssl/core_names.h", "openssl/crypto.h", "openssl/evp.h",
                                      "openssl/kdf.h", "openssl/params.h"},
    "common/core": set(),
    "common/hrl/crc.c": {"isa-l/crc.h", "isa-l.h"},
    "common/hrl": set(),
    "common/wire": {"protobuf-c/protobuf-c.h"},
    "participant/core": set(),
    "coordinator/core": set(),
}
TAP_BANNED = re.compile(r"^(openssl|protobuf-c|nng|event2|curl|jansson|sqlite3)\b")
TOP = {"CMakeLists.txt", "proto", "coordinator", "participant", "common", "tests", "deploy",
       "README.md", "LICENSE"}
BANNED_CALLS = re.compile(
    r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|rand|srand|alloca|tmpnam|"
    r"mktemp|system|usleep)\s*\(")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def longest(table, path):
    best = None
    for key in table:
        if (path == key or path.startswith(key + "/")) and (best is None or len(key) > len(best)):
            best = key
    return best


def check_file(root, path):
    text = (root / path).read_text(errors="replace")
    lines = text.splitlines()
    if not lines or "SPDX-License-Identifier: Apache-2.0" not in "\n".join(lines[:3]):
        yield f"{path}:1: no SPDX line"
    ours = longest(OURS, path)
    system = longest(SYSTEM, path)
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match:
            quote, name = match.groups()
            if name.startswith("proto/") and path.startswith("tests/"):
                continue
            if quote == '"' or (root / name).is_file() or name.startswith("proto/"):
                if ours is None:
                    continue
                folder = ours if not path.startswith("coordinator/core") else "coordinator/core"
                allowed = [folder, *OURS[ours]]
                if folder == "participant":
                    own = "/" not in name.removeprefix("participant/")
                    if name.startswith("participant/") and own:
                        continue
                    allowed = OURS[ours]
                if not any(name == a or name.startswith(a + "/") for a in allowed):
                    yield f"{path}:{number}: may not include {name} (allowed: {', '.join(allowed)})"
            elif system is not None and name not in PURE_SYSTEM | SYSTEM[system]:
                yield f"{path}:{number}: pure code may not include <{name}>"
            elif path.startswith("participant/tap/") and TAP_BANNED.match(name):
                yield f"{path}:{number}: the tap may not include <{name}>"
        elif not line.lstrip().startswith(("*", "/*", "//")) and not path.startswith("tests/"):
            call = BANNED_CALLS.search(re.sub(r'"(\\.|[^"\\])*"', '""', line))
            if call:
                yield f"{path}:{number}: {call.group(1)}() is not used here"
        if len(line) > 110:
            yield f"{path}:{number}: {len(line)} columns"
    if path.endswith(".c") and not path.startswith("tests/"):
        main = re.search(r"^int main\(", text, re.M)
        cli = re.match(r"coordinator/cli/cli_\w+\.c$", path)
        plugin = "NBDKIT_REGISTER_PLUGIN" in text
        if not (main or cli or plugin) and not (root / path).with_suffix(".h").is_file():
            yield f"{path}:1: has no header of its name"


def check(root, files):
    for top in sorted({f.split("/")[0] for f in files}):
        if top not in TOP and not top.startswith("."):
            yield f"{top}: not one of the top-level entries"
    for path in files:
        if path.endswith((".c", ".h")):
            yield from check_file(root, path)


def tracked(root):
    out = subprocess.run(["git", "-C", str(root), "ls-files"], capture_output=True, text=True,
                         check=False)
    if out.returncode == 0 and out.stdout:
        return [f for f in out.stdout.splitlines() if (root / f).is_file()]
    return [str(p.relative_to(root)) for p in root.rglob("*")
            if p.is_file() and not str(p.relative_to(root)).startswith(("build", "."))]


def self_test():
    spdx = "/* SPDX-License-Identifier: Apache-2.0 */\n"
    bad = {
        "common/core/a.c": (spdx + "#include <time.h>\n", "may not include <time.h>"),
        "common/hrl/a.c": (spdx + '#include "common/io/file.h"\n', "may not include common/io"),
        "participant/core/a.c": (spdx + '#include "participant/x.h"\n', "may not include"),
        "participant/a.c": (spdx + '#include "coordinator/x.h"\n', "may not include"),
        "participant/b.c": (spdx + '#include "participant/tap/x.h"\n', "may not include"),
        "coordinator/core/a.c": (spdx + '#include "coordinator/store/x.h"\n', "may not include"),
        "coordinator/a.c": (spdx + '#include "participant/core/gate.h"\n', "may not include"),
        "participant/tap/a.c": (spdx + "#include <openssl/ssl.h>\n", "the tap may not include"),
        "tests/lib/a.c": (spdx + '#include "common/io/file.h"\n', "may not include"),
        "common/io/a.c": ("int x;\n", "no SPDX"),
        "common/io/b.c": (spdx + "int y = atoi(z);\n", "atoi() is not used"),
        "common/io/c.c": (spdx, "no header of its name"),
        "extra/a.c": (spdx, "not one of the top-level"),
    }
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, (text, _) in bad.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        found = list(check(root, sorted(bad)))
        missed = [name for name, (_, want) in bad.items()
                  if not any(name.split("/")[0] in f and want in f and
                             (f.startswith(name) or "top-level" in want) for f in found)]
        for name in missed:
            print(f"self-test: the rule for {name} did not fire")
        return 1 if missed else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = pathlib.Path(sys.argv[1])
    files = tracked(root)
    if not files:
        print("no files found")
        return 1
    breaches = list(check(root, files))
    print("\n".join(breaches) if breaches else f"{len(files)} files, no breach")
    return 1 if breaches else 0


sys.exit(main())
