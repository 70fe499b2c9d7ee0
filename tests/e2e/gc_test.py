#!/usr/bin/env python3
"""gc: what nothing needs gives its space back, and what is needed stays, whenever it is cut off."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import types

import harness
from cluster import Cluster
from harness import (FULL, INTEGRITY, KIND_CHUNK, KIND_COMMIT, MIB, NOT_FOUND, SOME_FAILED,
                     write_file)

WINDOW = 64


def make_trees(root, rng, mib):
    """`keep` and `gone`, 75 files each, `mib` in all; some of gone's content is in keep, too."""
    mean = int(mib * MIB / 150)
    kept = []
    for tree in ("keep", "gone"):
        own = []
        for i in range(75):
            directory = os.path.join(root, tree, f"d{i % 5}")
            os.makedirs(directory, exist_ok=True)
            data = rng.randbytes(rng.randrange(mean // 2, mean * 3 // 2))
            if i % 8 == 7:
                data = rng.choice(own)
            elif i % 8 == 6 and kept:
                data = rng.choice(kept)
            elif i % 8 == 5 and kept:
                data = max(kept, key=len) + data  # Its first chunks are those of one that stays.
            own.append(data)
            write_file(os.path.join(directory, f"f{i:02}"), data)
        kept = kept or own


class GcCase(harness.HoldfastTest):

    def prepare(self, vault, source, mib):
        """Stores both trees; keeps a stretch of every chunk that only `gone` has."""
        rng = random.Random(harness.SEED)
        make_trees(source, rng, mib)
        vault.ingest(os.path.join(source, "keep"))
        kept = {record.id for record in vault.records(KIND_CHUNK)}
        vault.ingest(os.path.join(source, "gone"))
        windows = {}
        for record in vault.records(KIND_CHUNK):
            if record.id in kept or record.length < WINDOW:
                continue
            with open(record.path, "rb") as file:
                file.seek(record.payload_offset + rng.randrange(record.length - WINDOW + 1))
                windows[record.id] = file.read(WINDOW)
        self.assertGreater(len(windows), 40)
        return windows

    def gc(self, *args, **kwargs):
        return self.v.run("gc", "--json", *args, **kwargs).json_of("gc")[-1]

    def log_bytes(self):
        return sum(os.path.getsize(path) for path in self.v.segment_files())

    def windows_left(self, root):
        """How many of the remembered stretches are in any file below root."""
        left = set()
        for top, _, names in os.walk(root):
            for path in filter(os.path.isfile, (os.path.join(top, name) for name in names)):
                with open(path, "rb") as file:
                    data = file.read()
                left |= {record_id for record_id, window in self.windows.items() if window in data}
        return len(left)

    def must_be_tight(self):
        """Nothing but what is live, and a tenth, is in the log; what is only reserved aside."""
        live = {record.id: harness.RECORD_HEADER + record.length
                for record in self.v.records(KIND_CHUNK, KIND_COMMIT, harness.KIND_PART)}
        used = sum(len(batch) for path in self.v.segment_files()
                   for _, batch in harness.read_batches(path))
        self.assertLessEqual(used, 1.1 * len(self.v.node_dirs) * sum(live.values()))

    def must_restore(self, *trees):
        out = self.path("out")
        self.v.restore(out)
        self.assertEqual(sorted(trees), sorted(os.listdir(out)))
        for tree in trees:
            self.assert_same_tree(os.path.join(self.source, tree), os.path.join(out, tree))
        harness.remove_tree(out)

    def must_be_sound(self, *trees):
        self.v.fsck()
        self.v.verify()
        self.must_restore(*trees)


class EmbeddedGcTest(GcCase):
    """A vault made once; each test begins with its files as they were."""

    shared = None

    @classmethod
    def tearDownClass(cls):
        if cls.shared:
            harness.remove_tree(cls.shared.base)

    def setUp(self):
        super().setUp()
        cls = self.__class__
        if cls.shared is None:
            cls.shared = self.make()
        self.source, self.windows = cls.shared.source, cls.shared.windows
        self.v = cls.shared.vault
        self.v.test = self
        self.v.load(cls.shared.saved)
        self.rng = random.Random(f"{harness.SEED} {self.id()}")

    def make(self):
        shared = types.SimpleNamespace(base=tempfile.mkdtemp(prefix="holdfast-e2e."))
        shared.source = os.path.join(shared.base, "s")
        os.mkdir(os.path.join(shared.base, "v"))
        shared.vault = harness.Vault(self, os.path.join(shared.base, "v"),
                                     init_args=["--chunk-size", "64KiB"])
        shared.windows = self.prepare(shared.vault, shared.source, 20)
        shared.saved = os.path.join(shared.base, "saved")
        shared.vault.save(shared.saved)
        return shared

    def left(self):
        return self.windows_left(self.v.dir)

    def away(self):
        """All that only `gone` had is away, and nothing else."""
        self.assertEqual(0, self.left())
        self.must_be_tight()
        self.must_be_sound("keep")

    def test_away_in_three_steps(self):
        self.v.run("rm", "-r", "c/gone")
        full = self.log_bytes()
        digests = self.segment_digests()
        report = self.gc("--dry-run", "--undo-window", "0", "--grace", "0")
        self.assertEqual((True, 81, len(self.windows), len(self.windows), False),
                         (report["dry_run"], report["purged_versions"], report["trashed_records"],
                          report["due_records"], report["needs_consent"]))
        self.assertEqual(digests, self.segment_digests())
        # Within the undo window nothing is purged, and so nothing is garbage.
        report = self.gc("--grace", "0")
        self.assertEqual((0, 0), (report["purged_versions"], report["trashed_records"]))
        self.v.run("rm", "--undo", "-r", "c/gone")
        self.must_restore("gone", "keep")
        # After it, it is in the trash for the grace, and takes its room meanwhile.
        self.v.run("rm", "-r", "c/gone")
        report = self.gc("--undo-window", "0", "--grace", "1h")
        self.assertEqual((81, len(self.windows), 0),
                         (report["purged_versions"], report["trashed_records"],
                          report["freed_records"]))
        self.v.run("rm", "--undo", "-r", "c/gone", expect=NOT_FOUND)
        self.assertEqual(len(self.windows), self.left())
        self.assertGreater(self.log_bytes(), 0.95 * full)
        # How long ago it became trash, a catalogue that is rebuilt does not know.
        self.v.run("fsck", "--rebuild-catalogue")
        report = self.gc("--grace", "1h")
        self.assertEqual((len(self.windows), 0),
                         (report["in_trash_records"], report["freed_records"]))
        # After the grace it is gone.
        self.assertEqual(len(self.windows), self.gc("--grace", "0")["freed_records"])
        self.assertLess(self.log_bytes(), 0.65 * full)
        self.assertEqual(0, self.left())
        self.must_be_tight()
        # What comes again is stored again, and goes again, in one run.
        again = self.v.ingest(os.path.join(self.source, "gone")).summary
        self.assertGreater(again["stored_bytes"], 4 * MIB)
        self.must_restore("gone", "keep")
        self.v.run("rm", "--now", "-r", "c/gone")
        self.assertEqual(len(self.windows), self.gc("--grace", "0")["freed_records"])
        # The index is a cache, after all of this too.
        shutil.rmtree(os.path.join(self.v.node_dirs[0], "index"))
        self.away()

    def segment_digests(self):
        digests = {}
        for path in self.v.segment_files():
            with open(path, "rb") as file:
                digests[path] = hashlib.sha256(file.read()).hexdigest()
        return digests

    def test_killed(self):
        kills = 60 if FULL else 6
        for i in range(kills):
            if i % (kills // 3) == 0:
                removal = self.v.run("rm", "--now", "-r", f"c/gone/d{3 * i // kills}")
            with open(self.path("log"), "wb") as log:
                run = subprocess.Popen(self.v.args("gc", "--grace", "0"), stdout=log, stderr=log)
            part = (i % (kills // 3) + self.rng.random()) / (kills // 3)
            time.sleep(2.5 * removal.seconds * part)
            run.kill()
            run.wait()
            self.v.fsck()
        self.v.verify()
        self.v.run("rm", "--now", "-r", "c/gone")
        self.gc("--grace", "0")
        self.away()

    def test_a_damaged_segment_stays(self):
        self.v.run("rm", "--now", "-r", "c/gone")
        record = next(r for r in self.v.records(KIND_CHUNK) if r.id not in self.windows)
        harness.flip(record.path, record.payload_offset + 10)
        result = self.v.run("gc", "--grace", "0", expect=SOME_FAILED)
        self.assert_one_error_line(result, "node 0", record.path, "stays")
        self.v.verify(expect=INTEGRITY)
        # An ingest replaces the record, and then the segment goes.
        self.v.ingest(os.path.join(self.source, "keep"))
        self.gc("--grace", "0")
        self.away()

    def test_refused(self):
        key = self.path("ingest-key")
        self.v.run("key", "export", "--ingest-only", "--out", key)
        self.assert_one_error_line(self.v.run("gc", key=key, expect=harness.ACCESS), "not collect")
        for args in (["--grace", "7"], ["--undo-window=-1d"]):
            self.assert_one_error_line(self.v.run("gc", *args, expect=harness.USAGE))
        self.assert_one_error_line(self.v.run("gc", "--stop"), "no run is under way")

    def test_a_damaged_part_ends_the_run(self):
        # Of so many chunks that its manifest has parts.
        write_file(self.path("long"), self.rng.randbytes(85 * MIB))
        self.v.ingest(self.path("long"))
        part = self.v.records(harness.KIND_PART)[0]
        harness.flip(part.path, part.payload_offset + 10)
        result = self.v.run("gc", "--grace", "0", expect=INTEGRITY)
        self.assert_one_error_line(result, "long", "nothing is collected")
        self.assertIn(b"as far as it came", result.out)


class ClusterGcTest(GcCase):

    def test_one_run_at_a_time(self):
        self.v = Cluster(self, self.path("cluster"))
        # The run waits for a node that says nothing.
        os.kill(self.v.daemons[0].process.pid, signal.SIGSTOP)
        with open(self.path("log"), "wb") as log:
            first = subprocess.Popen(self.v.args("gc", "--grace", "1h"), stdout=log, stderr=log)
        time.sleep(0.5)
        for args in (["--dry-run", "--grace", "1h"], []):
            result = self.v.run("gc", *args, expect=harness.BUSY)
            self.assert_one_error_line(result, "--undo-window 7d --grace 1h", "--stop")
        self.v.run("gc", "--stop")
        os.kill(self.v.daemons[0].process.pid, signal.SIGCONT)
        self.assertEqual(harness.FAILED, first.wait(60))
        with open(self.path("log"), "rb") as log:
            self.assertIn(b"holdfast: stopped", log.read())

    def test_beside_an_ingest(self):
        self.source = self.path("s")
        self.v = Cluster(self, self.path("cluster"))
        self.windows = self.prepare(self.v, self.source, 6)
        self.v.run("rm", "-r", "c/gone")
        make_trees(self.path("more"), random.Random(harness.SEED + 1), 12)
        with open(self.path("log"), "wb") as log:
            ingest = subprocess.Popen(self.v.args("ingest", self.path("more"), self.path("s/gone"),
                                                  "--to", "d", "--quiet"), stdout=log, stderr=log)
        runs = 0
        while ingest.poll() is None:
            self.v.run("gc", "--undo-window", "0", "--grace", "0", "--quiet")
            runs += 1
        with open(self.path("log"), "rb") as log:
            self.assertEqual(0, ingest.returncode, log.read())
        self.assertGreater(runs, 0)
        # What had been trash, and came again meanwhile, is whole.
        self.v.verify()
        self.v.restore(self.path("d"), "d")
        self.assert_same_tree(self.path("more"), self.path("d/more"))
        self.assert_same_tree(self.path("s/gone"), self.path("d/gone"))
        self.v.run("rm", "-r", "d")
        self.assertGreater(self.gc("--undo-window", "0", "--grace", "0")["freed_records"], 0)
        self.v.wait_until_well()
        self.must_be_sound("keep")
        self.v.stop(signal.SIGTERM)
        self.assertEqual(0, self.windows_left(self.v.base))
        self.must_be_tight()


if __name__ == "__main__":
    harness.main()
