#!/usr/bin/env python3
"""`fsck --repair`: what one disk has lost comes back from the other, and nothing is left to report."""

import itertools
import os
import shutil

import harness
from damage_test import HEADER_OFFSETS, DamageCase
from harness import FULL, KIND_CHUNK, KIND_COMMIT, KIND_PART, flip


class RepairCase(DamageCase):

    def repaired(self, expect=harness.OK):
        result = self.v.fsck("--repair", expect=expect)
        return result.json_of("repair")[-1]

    def everything_is_well(self):
        self.v.fsck()
        self.v.verify()
        self.v.run("status")
        self.assertEqual(self.v.ls(), self.shared.listing)
        self.check_everything_restores()

    def without(self, node):
        """The vault with this disk's content gone: all comes from the others."""
        aside = self.v.nodes[node] + ".aside"
        os.rename(self.v.nodes[node], aside)
        os.mkdir(self.v.nodes[node])
        self.check_everything_restores()
        os.rmdir(self.v.nodes[node])
        os.rename(aside, self.v.nodes[node])


class TwoDiskRepairTest(RepairCase):

    NODES = ("disk-a", "disk-b")
    KINDS = (KIND_CHUNK, KIND_COMMIT)

    def test_records(self):
        cases = list(itertools.product(self.KINDS, (False, True), (False, True)))
        quick = min(len(cases), 2 * len(self.KINDS))
        for kind, in_header, without_index in cases if FULL else self.seed.sample(cases, quick):
            with self.subTest(kind=kind, in_header=in_header, without_index=without_index):
                self.fresh()
                record = self.seed.choice(self.v.records(kind))
                flip(record.path, record.offset + (
                    self.seed.choice(HEADER_OFFSETS) if in_header
                    else harness.RECORD_HEADER + self.seed.randrange(record.length)))
                if without_index:
                    for node in self.v.node_dirs:
                        shutil.rmtree(os.path.join(node, "index"))
                done = self.repaired()
                self.assertEqual((1, 0), (done["copied_records"], done["without_copy"]))
                self.everything_is_well()

    def test_headers(self):
        path = self.v.segment_files()[0]
        for what, offset in (("segment", 40), ("batch", harness.read_batches(path)[0][0] + 8)):
            with self.subTest(what=what):
                self.fresh()
                flip(path, offset)
                self.v.verify(expect=harness.INTEGRITY)
                done = self.repaired()
                self.assertEqual((0, 1), (done["copied_records"], done["segments"]))
                self.everything_is_well()

    def test_a_header_is_made_good_by_gc_too(self):
        flip(self.v.segment_files()[0], 40)
        self.v.run("status", expect=harness.INTEGRITY)
        self.v.run("gc", "--quiet")
        self.everything_is_well()

    def test_all_of_a_disk(self):
        for how in ("missing", "cut short", "damaged all over"):
            with self.subTest(how=how):
                self.fresh()
                for path in self.v.segment_files():
                    if not path.startswith(self.v.nodes[0]):
                        continue
                    size = os.path.getsize(path)
                    if how == "missing":
                        os.unlink(path)
                    elif how == "cut short":
                        os.truncate(path, self.seed.randrange(size))
                    else:
                        for _ in range(40):
                            flip(path, self.seed.randrange(size))
                self.repaired()
                self.everything_is_well()
                self.without(1)

    def test_damage_on_both_disks(self):
        """Of different records: each comes from where it is good."""
        seen = set()
        for record in self.seed.sample(self.v.records(KIND_CHUNK, KIND_COMMIT), 10):
            if record.id not in seen:
                flip(record.path, record.payload_offset + record.length // 2)
            seen.add(record.id)
        self.assertEqual(len(seen), self.repaired()["copied_records"])
        self.everything_is_well()
        self.without(0)
        self.without(1)

    def test_no_good_copy(self):
        record = self.seed.choice(self.v.records(KIND_CHUNK))
        for copy in self.v.records(KIND_CHUNK):
            if copy.id == record.id:
                flip(copy.path, copy.payload_offset + copy.length // 3)
        done = self.repaired(expect=harness.INTEGRITY)
        self.assertEqual((0, 2), (done["copied_records"], done["without_copy"]))
        self.verify_finds(lost=self.users_of(record))
        for tree in ("s1", "s2", "s3"):
            self.v.ingest(os.path.join(self.source, tree))
        self.everything_is_well()

    def test_a_disk_is_away(self):
        record = next(r for r in self.v.records(KIND_CHUNK) if r.path.startswith(self.v.nodes[0]))
        flip(record.path, record.payload_offset)
        os.rename(self.v.nodes[1], self.v.nodes[1] + ".aside")
        done = self.repaired(expect=harness.INTEGRITY)
        self.assertEqual((0, 1), (done["copied_records"], done["without_copy"]))
        os.rename(self.v.nodes[1] + ".aside", self.v.nodes[1])
        self.assertEqual(1, self.repaired()["copied_records"])
        self.everything_is_well()

    def test_nothing_to_do(self):
        sizes = [os.path.getsize(path) for path in self.v.segment_files()]
        self.assertEqual([], self.v.fsck("--repair").json_of("repair"))
        self.assertEqual(sizes, [os.path.getsize(path) for path in self.v.segment_files()])


class LongManifestRepairTest(RepairCase):

    NODES = ("disk-a", "disk-b")
    WITH_LONG = True
    KINDS = (KIND_PART,)
    test_records = TwoDiskRepairTest.test_records


class OneDiskRepairTest(RepairCase):

    def test_headers(self):
        path = self.v.segment_files()[0]
        flip(path, 40)
        flip(path, harness.read_batches(path)[1][0] + 8)
        done = self.repaired()
        self.assertEqual((0, 1), (done["copied_records"], done["segments"]))
        self.everything_is_well()

    def test_the_only_copy(self):
        (record,) = self.sample(KIND_CHUNK, 1)
        flip(record.path, record.payload_offset + record.length // 2)
        self.assertEqual(1, self.repaired(expect=harness.INTEGRITY)["without_copy"])
        result = self.v.run("fsck", "--repair", expect=harness.INTEGRITY)
        self.assertIn(b"no other disk has", result.out)
        for tree in ("s1", "s2", "s3"):
            self.v.ingest(os.path.join(self.source, tree))
        self.everything_is_well()

    def test_a_last_commit_that_is_lost_is_not_forgotten(self):
        """Whatever is run before the catalogue is rebuilt: what it stored would go without a word."""
        last = self.v.records(KIND_COMMIT)[-1]
        for commands in (["fsck"], ["fsck --repair"],
                         ["verify --quiet", "gc --quiet", "fsck --repair"]):
            for how in ("header", "missing"):
                with self.subTest(commands=commands, how=how):
                    self.fresh()
                    if how == "header":
                        flip(last.path, last.offset + 16)
                    else:
                        os.unlink(last.path)
                    shutil.rmtree(os.path.join(self.v.node_dirs[0], "index"))
                    for command in commands:
                        self.v.run(*command.split(), expect=None)
                    self.v.fsck(expect=harness.INTEGRITY)
                    result = self.v.fsck("--rebuild-catalogue", expect=harness.INTEGRITY)
                    self.assertRegex(result.err.decode(), "commit [0-9]+ is on no node|seg")
                    self.assertLess(len(self.v.ls(expect=None)), len(self.shared.listing))

    def test_damage_that_may_hide_the_last_commit_stays(self):
        """Of one before the last the numbers tell: its segment is rewritten, and it is still named."""
        commits = self.v.records(KIND_COMMIT)
        for record, code, text in ((commits[-1], harness.SOME_FAILED, "last commits"),
                                   (commits[0], harness.OK, None)):
            with self.subTest(code=code):
                self.fresh()
                flip(record.path, record.offset + 16)
                shutil.rmtree(os.path.join(self.v.node_dirs[0], "index"))
                result = self.v.run("gc", "--quiet", expect=code)
                if text:
                    self.assertIn(text, result.err.decode())
                self.assertEqual(text is None, os.path.getsize(record.path) == harness.BLOCK)
                self.assertIn(b"is on no node", self.v.fsck(expect=harness.INTEGRITY).err)

    def test_bad_input(self):
        result = self.v.run("fsck", "--repair", "--rebuild-catalogue", expect=harness.USAGE)
        self.assertIn(b"--repair", result.err)
        result = harness.run_command([harness.BINARY, "--vault", "tcp://127.0.0.1:1", "--key",
                                      self.v.key, "fsck", "--repair"])
        self.assertEqual(harness.USAGE, result.code, str(result))
        self.assert_one_error_line(result, "cluster", "gc")


if __name__ == "__main__":
    harness.main()
