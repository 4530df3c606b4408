#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""System test: four machines and a coordinator in network namespaces, under one nemesis each.

  nemesis.py leader       the leader is cut off from the other members
  nemesis.py half         two members here, two there
  nemesis.py one-way      what the leader says reaches one member, but not the way back; then the reverse
  nemesis.py ring         each member reaches its two neighbours only
  nemesis.py pause        the leader's daemon, then another one, is stopped for a while and goes on
  nemesis.py coordinator  the coordinator cannot be reached: rounds go on, and become points later
  nemesis.py alone        a member that may not lead is cut off from all others, which the group needs:
                          each goes on with points of its own
  nemesis.py torn         hold switched off: the judge of the other parts must find points torn
  nemesis.py delay        one member is far away, either way, then too far for the budget
  nemesis.py slow-disk    log, then image of one disk take their time
  nemesis.py failing-disk a log, then an image answers EIO
  nemesis.py full-disk    no space under a log and a daemon's state, then under the store
  nemesis.py kill-member  a member's daemon dies at named points of a round
  nemesis.py kill-leader  so does the leader's
  nemesis.py kill-tap     a tap dies in its hold
  nemesis.py kill-coordinator  it dies between a stored segment and the point's row
  nemesis.py kill-any     TIDE_ROUNDS (20) of such deaths, drawn by TIDE_SEED (tests/soak.sh)
  nemesis.py memory       a daemon, the coordinator and a tap have little memory, then two have none
  nemesis.py clock        clocks are off by hours, and by more than certificates last
  nemesis.py certificates a certificate expires under way, and is renewed
  nemesis.py mounted      eight mounted file systems, while daemons die and ways are cut

Meanwhile one chain of writes goes over all disks (tests/lib/scene.py). Each published point is exported,
and must hold what its latest step rests on. Says what a guest felt, which rounds failed and why; a
failure comes with its timeline, and leaves the folders."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import cage  # noqa: E402
import nemesis_disk  # noqa: E402
import nemesis_kill  # noqa: E402
import nemesis_machine  # noqa: E402
import nemesis_mounted  # noqa: E402
import nemesis_net  # noqa: E402
from netcluster import NetCluster  # noqa: E402
from scene import play  # noqa: E402

PARTS = {**nemesis_net.PARTS, **nemesis_disk.PARTS, **nemesis_kill.PARTS, **nemesis_machine.PARTS,
         **nemesis_mounted.PARTS}


def main():
    if os.geteuid() != 0:
        print("skipped: network namespaces need root")
        return 77
    part = sys.argv[1]
    lacks = {"memory": cage.lacks, "mounted": nemesis_mounted.lacks}.get(part, lambda: None)()
    if lacks:
        print(f"skipped: {lacks}")
        return 77
    options = {"disks": ("data", "log"), "size": nemesis_mounted.SIZE} if part == "mounted" else {}
    return play(PARTS[part], NetCluster(nemesis_net.MEMBERS, machines=["relay"], **options))


if __name__ == "__main__":
    sys.exit(main())
