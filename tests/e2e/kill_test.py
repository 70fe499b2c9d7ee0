#!/usr/bin/env python3
"""kill -9 at random points of an ingest.

After each kill: everything acknowledged reads back exact; everything else is absent or complete;
a re-run finishes the job; fsck is clean. HOLDFAST_KILLS=N sets how many (10; 200 in full).
"""

import hashlib
import json
import os
import random
import subprocess
import time

import harness
from harness import FULL, MIB, HoldfastTest

KILLS = int(os.environ.get("HOLDFAST_KILLS") or (200 if FULL else 10))


class KillTest(HoldfastTest):

    def setUp(self):
        super().setUp()
        self.source = self.path("source")
        # About 200 MB: one large file, images, and many small ones; some of it twice.
        harness.make_media_tree(self.source, harness.SEED, files=350, mean=300_000,
                                large=[60 * MIB, 3 * MIB])
        harness.make_media_tree(os.path.join(self.source, "small"), harness.SEED + 1, files=2_500,
                                mean=9_000)
        harness.make_media_tree(os.path.join(self.source, "twice"), harness.SEED, files=60,
                                mean=300_000)
        os.symlink("large0.mp4", os.path.join(self.source, "link"))
        os.link(os.path.join(self.source, "large1.mp4"), os.path.join(self.source, "hard-link"))
        self.entries, _, _ = harness.scan_tree(self.source)
        print(f"{harness.tree_bytes(self.source) / 1e6:.0f} MB in {len(self.entries)} objects")

    def ingest_until(self, vault, seconds, log):
        """Ingests; kills it after `seconds`. False when it was over before that."""
        with open(log, "wb") as out, open(log + ".err", "wb") as err:
            child = subprocess.Popen(vault.args("ingest", self.source, "--to", "c", "--json", "--quiet"),
                                     stdout=out, stderr=err)
        try:
            child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()  # SIGKILL
            child.wait()
            return True
        with open(log + ".err", encoding="utf-8", errors="replace") as err:
            self.assertEqual(0, child.returncode, err.read())
        return False

    @staticmethod
    def acknowledged(log):
        """Names in whole lines; the last line may be cut short."""
        names = []
        with open(log, "rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    entry = json.loads(line)
                    if entry["type"] == "object":
                        names.append(harness.name_of(entry))
        return names

    def check(self, vault, acknowledged, rng):
        # Without the collection nothing was acknowledged.
        result = vault.run("ls", "-0", "c", expect={harness.OK, harness.NOT_FOUND})
        listed = {name.rstrip(b"/") for name in result.out.split(b"\0")[:-1]}
        missing = set(acknowledged) - listed
        self.assertFalse(missing, f"{len(missing)} acknowledged, but not listed: {sorted(missing)[:5]}")
        if not listed:
            return
        out = self.path("out")
        vault.restore(out)
        got, _, _ = harness.scan_tree(out)
        for name in listed:
            want = self.entries[name[len(b"source/"):] if name != b"source" else b""]
            have = got.get(name)
            self.assertIsNotNone(have, f"{name!r} is listed, but does not restore")
            self.assertEqual((want.kind, want.size, want.digest, want.link),
                             (have.kind, have.size, have.digest, have.link), name)
        self.assertEqual(set(), {n for n in got if n and n not in listed and got[n].digest})
        harness.remove_tree(out)
        # The same through cat, for a few.
        files = [name for name in acknowledged if self.entries[name[len(b"source/"):]].digest]
        for name in rng.sample(files, min(3, len(files))):
            want = self.entries[name[len(b"source/"):]]
            self.assertEqual(want.digest, hashlib.sha256(vault.cat(name)).hexdigest(), name)

    def test_killed_at_random_points(self):
        rng = random.Random(harness.SEED)
        vault = self.vault("whole")
        start = time.monotonic()
        vault.ingest(self.source)
        whole = time.monotonic() - start
        harness.remove_tree(self.path("whole"))
        print(f"an ingest takes {whole:.2f} s; {KILLS} kills, seed {harness.SEED}")

        killed = in_progress = 0
        while killed < KILLS:
            home = f"v{killed}"
            nodes = rng.choice([(), (), ("disk-a", "disk-b")])
            vault = self.vault(home, nodes=nodes)
            acknowledged, log = [], self.path("log")
            # One to three kills in a row hit recovery and the second run, too.
            for _ in range(rng.choice([1, 1, 2, 3])):
                at = rng.uniform(0.0, 1.05) * whole * (1.5 if nodes else 1)
                was_killed = self.ingest_until(vault, at, log)
                now = self.acknowledged(log)
                acknowledged += now
                with self.subTest(kill=killed, after=round(at, 3), disks=len(nodes) or 1):
                    self.check(vault, acknowledged, rng)
                if not was_killed:
                    break
                killed += 1
                in_progress += bool(now)
            with self.subTest(rerun=killed):
                result = vault.ingest(self.source)
                self.assertEqual(len(self.entries), len(result.json_of("object")))
                vault.fsck()
                vault.verify()
                vault.restore(self.path("all"))
                self.assert_same_tree(self.source, self.path("all/source"))
            harness.remove_tree(self.path("all"))
            harness.remove_tree(self.path(home))
        print(f"{killed} kills, {in_progress} of them after the first acknowledgement")

    def test_killed_while_reading_and_rebuilding(self):
        """verify, restore, ls and fsck --rebuild-catalogue may die at any point, too."""
        rng = random.Random(harness.SEED + 7)
        vault = self.vault()
        vault.ingest(self.source)
        listing = vault.ls()
        for i in range(KILLS // 2 + 1):
            verb = rng.choice([["ls", "c"], ["verify"], ["fsck"], ["fsck", "--rebuild-catalogue"],
                               ["restore", "c", "--to", self.path(f"gone{i}")]])
            child = subprocess.Popen(vault.args(*verb), stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)
            try:
                child.wait(timeout=rng.uniform(0, 0.4))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            harness.remove_tree(self.path(f"gone{i}"))
            with self.subTest(verb=verb, round=i):
                # Cut between its two renames a rebuild leaves no catalogue; it says so, and runs again.
                result = vault.run("ls", "-0", "c", expect={harness.OK, harness.INTEGRITY})
                if result.code != harness.OK:
                    self.assertIn("--rebuild-catalogue", verb, str(result))
                    self.assert_one_error_line(result, "fsck --rebuild-catalogue")
                    vault.fsck("--rebuild-catalogue")
                self.assertEqual(listing, vault.ls())
        vault.fsck()
        vault.verify()


if __name__ == "__main__":
    harness.main()
