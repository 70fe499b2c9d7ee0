#!/usr/bin/env python3
"""kill -9 at random points of an ingest.

After each kill: everything acknowledged reads back exact; everything else is absent or complete;
a re-run finishes the job; fsck is clean. HOLDFAST_KILLS=N sets how many (3; 200 in full).
"""

import os
import random
import subprocess
import time

import harness
from harness import FULL, CrashTest

KILLS = int(os.environ.get("HOLDFAST_KILLS") or (200 if FULL else 3))


class KillTest(CrashTest):

    def setUp(self):
        super().setUp()
        self.make_source(scale=1 if FULL else 0.3)

    def ingest_until(self, vault, seconds, log, acknowledged=False):
        """Ingests; kills it after `seconds`, or once something is acknowledged. False when it was over
        before that."""
        child = self.start_ingest(vault, log)
        while acknowledged and child.poll() is None and not os.path.getsize(log):
            time.sleep(0.002)
        try:
            child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()  # SIGKILL
            child.wait()
            return True
        with open(log + ".err", encoding="utf-8", errors="replace") as err:
            self.assertEqual(0, child.returncode, err.read())
        return False

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
                if not in_progress and killed == KILLS - 1:  # At least once.
                    was_killed = self.ingest_until(vault, 0, log, acknowledged=True)
                else:
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
                self.finish(vault)
            harness.remove_tree(self.path(home))
        print(f"{killed} kills, {in_progress} of them after the first acknowledgement")
        self.assertGreater(in_progress, 0)

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
