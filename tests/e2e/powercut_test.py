#!/usr/bin/env python3
"""The power goes at random points of an ingest, and in each step of garbage collection: what was
written but not synced is gone.

kill -9 leaves the page cache, so only here do missing syncs show. The vault, or a part of it, lies
on a small ext4 or xfs that is shut down without its journal being flushed; so one part may fall
behind the others. After each cut of an ingest: everything acknowledged reads back exact; everything
else is absent or complete; verify is clean; a re-run finishes the job; fsck is clean. After each cut
of a gc: what is live reads back exact, fsck and verify are clean, and the next gc leaves nothing else.
HOLDFAST_POWER_CUTS=N sets how many times (of an ingest 3 and 1, 40 and 20 in full; of a gc 1 and 0, 44
and 44 in full).
"""

import collections
import glob
import os
import random
import shutil
import subprocess
import time

import harness
from faults import Faults
from gc_rounds import PHASES, GcRounds
from harness import FULL, CrashTest, HoldfastTest

CUTS = int(os.environ.get("HOLDFAST_POWER_CUTS") or 0)
DISK_MIB = 512
# On ext4 the journal is written when a sync asks for it, not by itself, and no rename syncs what it
# names.
OPTIONS = {"ext4": "loop,commit=300,noauto_da_alloc", "xfs": "loop"}


def make_disk(test, kind="ext4", mib=DISK_MIB):
    return harness.SmallDisk(test, mib, OPTIONS[kind], kind, in_memory=True)


def vault_on_the_disk(test, disk, name, which, **kwargs):
    """A vault of which all, a node, the catalogue or one of two copies lies on the disk."""
    on, off = os.path.join(disk.path, name), test.path(name)
    os.makedirs(on)
    os.makedirs(off)
    nodes = {"all": [], "node": [os.path.join(on, "n")], "catalogue": [os.path.join(off, "n")],
             "copy": [os.path.join(on, "n"), os.path.join(off, "n")]}[which]
    return harness.Vault(test, on if which in ("all", "catalogue") else off, nodes=nodes, **kwargs)


def log_lines(path):
    with open(path, "rb") as log:
        return log.read().count(b"\n")


class PowerCutTest(CrashTest):

    KIND, ROUNDS = "ext4", CUTS or (40 if FULL else 3)

    def setUp(self):
        super().setUp()
        self.disk = make_disk(self, self.KIND)
        self.make_source(scale=0.12)

    def ingest_until_cut(self, vault, acknowledged, seconds, linger, log):
        """Ingests, and cuts the power when so many objects are acknowledged and so many seconds have
        gone since; the process sees errors for `linger` more. False when it was over before that.
        """
        child = self.start_ingest(vault, log)
        while child.poll() is None and log_lines(log) < acknowledged:
            time.sleep(0.002)
        try:
            child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            pass
        was_running = child.poll() is None
        self.disk.cut_power()
        if was_running:
            time.sleep(linger)
        child.kill()
        child.wait()
        self.disk.power_on()
        return was_running

    def point(self, rng, first):
        """When to cut: after so many acknowledgements, so many seconds later, errors for so long."""
        count = rng.randrange(1, len(self.entries))
        if first:  # At once after an acknowledgement is when a missing sync shows.
            return count // 2 + 1, 0, 0
        return rng.choice([0, count]), rng.choice([0, rng.uniform(0, 0.5)]), rng.choice([0, 0.3])

    def test_power_cut_at_random_points(self):
        rng = random.Random(harness.SEED)
        cuts = in_progress = 0
        for i in range(self.ROUNDS):
            which = ("node", "catalogue", "all", "copy")[i % 4]
            name = f"v{i}"
            vault = vault_on_the_disk(self, self.disk, name, which)
            acknowledged, log = [], self.path("log")
            for again in range(rng.choice([1, 1, 2])):
                point = self.point(rng, first=not again)
                was_running = self.ingest_until_cut(vault, *point, log)
                now = self.acknowledged(log)
                acknowledged += now
                cuts += 1
                in_progress += was_running and bool(now)
                with self.subTest(round=i, cut=point, on_the_disk=which, acknowledged=len(now)):
                    self.check(vault, acknowledged, rng)
                    vault.verify()
            with self.subTest(round=i, on_the_disk=which):
                self.finish(vault)
            harness.remove_tree(os.path.join(self.disk.path, name))
            harness.remove_tree(self.path(name))
        print(f"{cuts} power cuts, {in_progress} of them after the first acknowledgement")


class XfsPowerCutTest(PowerCutTest):

    KIND, ROUNDS = "xfs", CUTS or (20 if FULL else 1)


class GcPowerCutTest(GcRounds):

    KIND, ROUNDS = "ext4", CUTS or (44 if FULL else 1)

    def after_cut(self, hit):
        if hit:
            self.disk.power_on()

    def test_power_cut_in_each_step(self):
        rng = random.Random(f"{harness.SEED} {self.id()}")
        parts = ("all", "node", "catalogue", "copy")
        steps = [*PHASES, "compact"]  # The longest.
        offset = rng.randrange(len(steps) * len(parts))
        self.disk = make_disk(self, self.KIND)
        seen = collections.Counter()
        # In full each step comes with each part on the disk.
        for which in parts:
            phases = [steps[i // len(parts) % len(steps)]
                      for i in range(offset, offset + self.ROUNDS) if parts[i % len(parts)] == which]
            if not phases:
                continue
            vault = vault_on_the_disk(self, self.disk, which, which,
                                      init_args=["--chunk-size", "64KiB"])
            self.begin(vault, rng)
            with self.subTest(on_the_disk=which):
                self.rounds(phases, f"cut:{self.disk.path}", lambda: rng.choice([0, 0, 0.1, 0.3]))
            seen += self.seen
            harness.remove_tree(os.path.join(self.disk.path, which))
        self.say(seen)
        if self.ROUNDS >= len(parts) * len(steps):
            self.assertEqual(set(PHASES), set(seen))


class XfsGcPowerCutTest(GcPowerCutTest):

    KIND = "xfs"

    def setUp(self):
        super().setUp()
        if not FULL and not CUTS:
            self.skipTest("in full")


class PowerCutAfterwardsTest(HoldfastTest):
    """What a command said it made is there when the power goes right after it."""

    def test_init_and_key_export(self):
        disk = make_disk(self, mib=64)
        vault = harness.Vault(self, disk.path)
        disk.cut_power()
        disk.power_on()
        vault.run("status")
        field_key = os.path.join(disk.path, "field.key")
        vault.run("key", "export", "--ingest-only", "--out", field_key)
        disk.cut_power()
        disk.power_on()
        source = harness.write_file(self.path("file"), b"content")
        vault.ingest(source, key=field_key)
        disk.cut_power()
        disk.power_on()
        self.assertEqual(b"content", vault.cat("file"))
        vault.verify()
        vault.fsck()

    def test_a_rebuilt_catalogue(self):
        disk = make_disk(self, mib=64)
        vault = harness.Vault(self, disk.path, nodes=[self.path("node")])
        vault.ingest(harness.write_file(self.path("file"), b"content"))
        shutil.rmtree(os.path.join(vault.dir, "catalogue"))
        os.sync()
        vault.fsck("--rebuild-catalogue")
        disk.cut_power()
        disk.power_on()
        self.assertEqual([b"file"], vault.ls())
        self.assertEqual(b"content", vault.cat("file"))


class ZerosTest(HoldfastTest):

    def test_a_log_that_ends_in_zeros(self):
        """ext4 may keep a file's new size, and not what was appended after the last sync."""
        vault, faults = self.vault(), Faults(self)
        faults.set("unlink */door 2 1 kill")  # When all is done, but for closing it.
        vault.ingest(harness.write_file(self.path("file"), b"content"), env=faults.env, expect=-9)
        logs = sorted(glob.glob(os.path.join(vault.dir, "catalogue", "*.log")), key=os.path.getsize)
        os.truncate(logs[-1], os.path.getsize(logs[-1]) + 100)
        self.assertEqual(b"content", vault.cat("file"))
        vault.fsck()
        vault.verify()


if __name__ == "__main__":
    harness.main()
