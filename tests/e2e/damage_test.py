#!/usr/bin/env python3
"""One flipped byte anywhere: found, named, and nothing but what it hit is affected.

Records of every kind in the segments, segment and batch headers, superblocks, the index, every
file of the catalogue, truncated and foreign segments, the last batch of an idle vault.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import harness
from harness import BLOCK, FULL, KIND_CHUNK, KIND_COMMIT, KIND_PART, MIB, HoldfastTest, flip, write_file

# Offsets in a record header: magic, version, kind, suite, length, lsn, touch epoch, segment, id,
# checksum, unused, CRC.
HEADER_OFFSETS = [0, 4, 5, 6, 12, 16, 24, 40, 88, 119, 120, 137, 143]


def make_sources(base, with_long):
    """Three trees, each a commit of its own; "s2/long" has manifest parts, and is nearly all hole."""
    rng = random.Random(harness.SEED)
    for tree in ("s1", "s2", "s3"):
        os.makedirs(os.path.join(base, tree, "sub"))
        for i in range(5):
            write_file(os.path.join(base, tree, f"small{i}"), rng.randbytes(3_000 + 7_000 * i))
        write_file(os.path.join(base, tree, "sub/medium"), rng.randbytes(700_000))
        text = b" ".join(str(rng.random()).encode() for _ in range(30_000))
        write_file(os.path.join(base, tree, "sub/text"), text)
        os.symlink("medium", os.path.join(base, tree, "sub/link"))
    if with_long:
        with open(os.path.join(base, "s2/long"), "wb") as file:
            file.truncate(300 * MIB)  # Over 1,024 chunks of 256 KiB.
            file.seek(100 * MIB)
            file.write(rng.randbytes(150_000))
    return ["s1", "s2", "s3"]


class DamageCase(HoldfastTest):
    """A vault made once per class; each test begins with its files as they were."""

    NODES = ()
    WITH_LONG = False

    @classmethod
    def setUpClass(cls):
        cls.shared = None

    @classmethod
    def tearDownClass(cls):
        if cls.shared:
            harness.remove_tree(cls.shared.base)

    def setUp(self):
        super().setUp()
        if self.__class__.shared is None:
            self.__class__.shared = self.make()
        shared = self.__class__.shared
        self.v = shared.vault
        self.v.test = self
        self.source = shared.source
        self.v.load(shared.saved)
        self.seed = random.Random(f"{harness.SEED} {self.id()}")

    def make(self):
        import tempfile
        shared = type("Shared", (), {})()
        shared.base = tempfile.mkdtemp(prefix="holdfast-e2e.")
        shared.source = os.path.join(shared.base, "source")
        trees = make_sources(shared.source, self.WITH_LONG)
        home = os.path.join(shared.base, "v")
        os.mkdir(home)
        shared.vault = harness.Vault(self, home, nodes=self.NODES,
                                     init_args=["--chunk-size", "64KiB"])
        for tree in trees:
            shared.vault.ingest(os.path.join(shared.source, tree))
        shared.listing = shared.vault.ls()
        shared.entries, _, _ = harness.scan_tree(shared.source)
        shared.chunks_of = {}
        for name in shared.listing:
            if shared.entries[name].digest is None:
                continue
            (stat,) = shared.vault.run("stat", b"c/" + name, "--json").json
            shared.chunks_of[name] = {bytes.fromhex(c["id"]) for c in stat["chunks"]}
        shared.vault.verify()
        shared.saved = os.path.join(shared.base, "saved")
        shared.vault.save(shared.saved)
        return shared

    def fresh(self):
        self.v.load(self.shared.saved)

    def users_of(self, record):
        if record.kind == KIND_CHUNK:
            return {n for n, chunks in self.shared.chunks_of.items() if record.id in chunks}
        if record.kind == KIND_PART:
            return {b"s2/long"}
        return set()

    def check_everything_restores(self, lost=frozenset(), listed=None, expect=None):
        """Restores the collection: what is not in `lost` is exact, what is in it is not there."""
        out = self.path(f"out{time.monotonic_ns()}")
        if expect is None:
            expect = harness.INTEGRITY if lost else harness.OK
        result = self.v.restore(out, expect=expect)
        got, _, _ = harness.scan_tree(out)
        for name in self.shared.listing if listed is None else listed:
            want = self.shared.entries[name]
            if name in lost:
                self.assertNotIn(name, got, f"damaged, but something was restored\n{result}")
            elif want.digest or want.link:
                self.assertEqual(want, got.get(name), f"{name!r}\n{result}")
        for name in lost:
            self.assertIn(name.decode(), result.err.decode(), "what is lost is named")
        harness.remove_tree(out)

    def verify_finds(self, lost=frozenset(), damaged=frozenset(), one_is_good=False):
        """Exit 5, and these objects are named, no others; in `lost` no good copy is left."""
        result = self.v.verify(expect=harness.INTEGRITY)
        named = {harness.name_of(d): d["lost"] for d in result.json_of("damage")}
        self.assertEqual(set(lost) | set(damaged), set(named), str(result))
        for name in lost:
            self.assertTrue(named[name], f"{name!r} is lost, which is not said\n{result}")
        if one_is_good:
            self.assertNotIn(True, named.values(), str(result))
        if not named:
            self.assertTrue(result.json_of("finding"), str(result))
        self.assertGreaterEqual(len(result.error_lines), 1)
        return result

    def sample(self, kind, count):
        records = self.v.records(kind)
        self.assertTrue(records, f"no record of kind {kind} in the segments")
        return self.seed.sample(records, min(count, len(records)))

    def try_record(self, record, where, without_index):
        with self.subTest(kind=record.kind, record=record.offset, where=where, no_index=without_index):
            self.fresh()
            flip(record.path, record.offset + where, self.seed.randrange(8))
            if without_index:
                for node in self.v.node_dirs:
                    shutil.rmtree(os.path.join(node, "index"))
            users = self.users_of(record)
            # With only its header damaged a record still reads through the index: its objects are
            # named as damaged, and restore; a rebuilt index does not find it any more.
            reads = record.offset + where < record.payload_offset and not without_index
            lost, damaged = (set(), users) if reads else (users, set())
            self.assertEqual(self.v.ls(), self.shared.listing, "names come from the catalogue")
            self.verify_finds(lost=lost, damaged=damaged)
            self.check_everything_restores(lost)
            result = self.v.fsck(expect=harness.INTEGRITY)
            self.assertTrue(result.json_of("finding"), str(result))
            for name in sorted(lost)[:1]:
                result = self.v.run("cat", b"c/" + name, expect=harness.INTEGRITY)
                self.assert_one_error_line(result, name.decode())


class SegmentDamageTest(DamageCase):

    def test_payloads(self):
        for kind in (KIND_CHUNK, KIND_COMMIT):
            for record in self.sample(kind, 12 if FULL else 2):
                where = self.seed.choice([0, record.length // 2, record.length - 1,
                                          self.seed.randrange(record.length)])
                self.try_record(record, harness.RECORD_HEADER + where, self.seed.random() < 0.5)

    def test_headers(self):
        for kind in (KIND_CHUNK, KIND_COMMIT):
            for where in HEADER_OFFSETS if FULL else self.seed.sample(HEADER_OFFSETS, 2):
                (record,) = self.sample(kind, 1)
                self.try_record(record, where, self.seed.random() < 0.5)

    def test_batch_headers(self):
        batches = [(path, offset) for path in self.v.segment_files()
                   for offset, _ in harness.read_batches(path)]
        for path, begin in self.seed.sample(batches, min(len(batches), 10 if FULL else 3)):
            where = self.seed.choice([0, 4, 8, 24, 32, 40, 44, 63])
            with self.subTest(batch=begin, where=where):
                self.fresh()
                flip(path, begin + where)
                self.verify_finds()
                self.check_everything_restores()

    def test_batch_headers_without_index(self):
        """The records behind a bad batch header are found again."""
        path = self.v.segment_files()[0]
        begin = self.seed.choice(harness.read_batches(path))[0]
        flip(path, begin + self.seed.choice([0, 24, 44]))
        shutil.rmtree(os.path.join(self.v.node_dirs[0], "index"))
        self.verify_finds()
        self.check_everything_restores()

    def test_segment_header(self):
        path = self.v.segment_files()[0]
        for where in (0, 8, 16, 48, 2000, BLOCK - 1):
            with self.subTest(where=where):
                self.fresh()
                flip(path, where)
                self.verify_finds()
                self.check_everything_restores()

    def test_padding_is_nobodys(self):
        path = self.v.segment_files()[0]
        begin, batch = harness.read_batches(path)[0]
        records = [r for r in harness.read_records(path) if r.offset < begin + len(batch)]
        end = records[-1].payload_offset + records[-1].length
        end = (end + 7) // 8 * 8
        if end >= begin + len(batch):
            self.skipTest("this batch has no padding")
        flip(path, end)
        self.v.verify(expect={harness.OK, harness.INTEGRITY})
        self.check_everything_restores()

    def test_several_at_once(self):
        """Each damaged object is named, once."""
        lost = set()
        records = [r for r in self.v.records(KIND_CHUNK)]
        for record in self.seed.sample(records, 4):
            flip(record.path, record.payload_offset + record.length // 2)
            lost |= self.users_of(record)
        result = self.verify_finds(lost=lost)
        self.assertEqual(len(lost), len(result.json_of("damage")))
        self.check_everything_restores(lost)

    def test_a_damaged_chunk_is_stored_again_by_the_next_ingest(self):
        (record,) = self.sample(KIND_CHUNK, 1)
        flip(record.path, record.payload_offset + record.length // 2)
        self.verify_finds(lost=self.users_of(record))
        for tree in ("s1", "s2", "s3"):
            self.v.ingest(os.path.join(self.source, tree))
        self.check_everything_restores()

    def test_verify_of_one_object_only_looks_there(self):
        (record,) = [r for r in self.v.records(KIND_CHUNK)
                     if self.users_of(r) == {b"s1/small0"}]
        flip(record.path, record.payload_offset)
        result = self.v.verify("c/s1/small0", expect=harness.INTEGRITY)
        self.assertEqual({b"s1/small0"}, {harness.name_of(d) for d in result.json_of("damage")})
        self.v.verify("c/s1/small1")
        self.v.verify("c/s3")

    def test_last_acknowledged_batch_of_an_idle_vault(self):
        """It is corruption, not a torn tail: the superblock knows that it was synced."""
        path = self.v.segment_files()[-1]
        begin, batch = harness.read_batches(path)[-1]
        last = [r for r in harness.read_records(path) if r.offset >= begin]
        last_chunk = [r for r in harness.read_records(path) if r.kind == KIND_CHUNK][-1]
        targets = [(path, begin, set()), (path, last[-1].offset, self.users_of(last[-1])),
                   (path, last[-1].payload_offset, self.users_of(last[-1])),
                   (path, last_chunk.payload_offset + 99, self.users_of(last_chunk))]
        for target, offset, lost in targets:
            for without_index in (False, True):
                with self.subTest(offset=offset, batch=begin, no_index=without_index):
                    self.fresh()
                    flip(target, offset)
                    if without_index:
                        shutil.rmtree(os.path.join(self.v.node_dirs[0], "index"))
                    self.verify_finds(lost=lost)
                    self.check_everything_restores(lost)

    def test_last_batch_zeroed(self):
        path = self.v.segment_files()[-1]
        begin, batch = harness.read_batches(path)[-1]
        with open(path, "r+b") as file:
            file.seek(begin)
            file.write(bytes(len(batch)))
        self.v.fsck(expect=harness.INTEGRITY)
        self.v.fsck(expect=harness.INTEGRITY)  # Not forgotten by the second time.

    def test_truncated_segment(self):
        path = self.v.segment_files()[0]
        size = os.path.getsize(path)
        batches = harness.read_batches(path)
        for to in (size // 2 & ~(BLOCK - 1), size // 2 + 100, batches[-1][0], BLOCK, 100, 0):
            with self.subTest(to=to, of=size):
                self.fresh()
                gone = [r for r in self.v.records(KIND_CHUNK, KIND_PART)
                        if r.path == path and r.payload_offset + r.length > to]
                lost = set().union(set(), *(self.users_of(r) for r in gone))
                os.truncate(path, to)
                result = self.v.fsck(expect=harness.INTEGRITY)
                self.assertIn(os.path.basename(path), result.err.decode())
                result = self.v.run("verify", expect=harness.INTEGRITY)
                self.assertIn(os.path.basename(path), result.err.decode())
                self.assert_lost_at_most(lost)

    def assert_lost_at_most(self, lost):
        """Commands other than fsck may refuse (5, one line) or go on; nothing comes back wrong."""
        result = self.v.run("ls", "-0", "c", expect={harness.OK, harness.INTEGRITY})
        if result.code == harness.INTEGRITY:
            self.assert_one_error_line(result)
            return
        self.assertEqual(self.shared.listing, [n.rstrip(b"/") for n in result.out.split(b"\0")[:-1]])
        if lost:
            self.verify_finds(lost=lost)
        self.check_everything_restores(lost)

    def test_segment_missing(self):
        path = self.v.segment_files()[0]
        os.unlink(path)
        result = self.v.fsck(expect=harness.INTEGRITY)
        self.assertTrue(result.error_lines)
        self.v.run("verify", expect=harness.INTEGRITY)

    def test_foreign_segment(self):
        other = self.vault("other")
        other.ingest(os.path.join(self.source, "s1"))
        foreign = other.segment_files()[0]
        mine = self.v.segment_files()[0]
        number = len(self.v.segment_files()) + 1
        beside = os.path.join(os.path.dirname(mine), f"{number:010}.seg")
        for target, lost in ((beside, set()), (mine, None)):
            with self.subTest(target=os.path.basename(target)):
                self.fresh()
                if lost is None:
                    gone = [r for r in self.v.records(KIND_CHUNK, KIND_PART) if r.path == mine]
                    lost = set().union(*(self.users_of(r) for r in gone))
                shutil.copy(foreign, target)
                for verb in ("fsck", "verify"):
                    result = self.v.run(verb, expect=harness.INTEGRITY)
                    self.assertIn(os.path.basename(target), result.err.decode())
                self.assert_lost_at_most(lost)

    def test_superblock(self):
        path = os.path.join(self.v.node_dirs[0], "superblock")
        size = os.path.getsize(path)
        self.assertGreaterEqual(size, 2 * BLOCK)
        for slot in (0, 1):
            for where in (0, 20, 60, BLOCK - 1):
                with self.subTest(slot=slot, where=where):
                    self.fresh()
                    flip(path, slot * BLOCK + where)
                    self.v.verify(expect={harness.OK, harness.INTEGRITY})
                    self.check_everything_restores()
        self.fresh()
        flip(path, 100)
        flip(path, BLOCK + 100)
        result = self.v.run("ls", "c", expect=harness.INTEGRITY)
        self.assert_one_error_line(result)

    def test_vault_file(self):
        path = os.path.join(self.v.dir, "vault")
        for where in self.seed.sample(range(os.path.getsize(path)), 6):
            with self.subTest(where=where):
                self.fresh()
                flip(path, where)
                result = self.v.run("ls", "c", expect=harness.INTEGRITY)
                self.assert_one_error_line(result, "--rebuild-catalogue")
        os.unlink(path)
        result = self.v.run("ls", "c", expect=harness.INTEGRITY)
        self.assert_one_error_line(result, "--rebuild-catalogue")
        self.v.fsck("--rebuild-catalogue")
        self.assertEqual(self.shared.listing, self.v.ls())
        self.check_everything_restores()

    def test_status_knows_of_damage_that_was_found_before(self):
        (record,) = self.sample(KIND_CHUNK, 1)
        flip(record.path, record.payload_offset)
        self.v.verify(expect=harness.INTEGRITY)
        result = self.v.run("status", expect=harness.INTEGRITY)
        self.assertIn(b"NOT EVERYTHING IS WELL", result.out)
        # Stored again, all is well, also for a node that has to read its log anew.
        self.v.ingest(self.source + "/.")
        self.v.run("status")
        shutil.rmtree(os.path.join(self.v.node_dirs[0], "index"))
        self.v.verify()

    def test_a_disk_put_back_to_an_earlier_state(self):
        node = self.v.node_dirs[0]
        earlier = self.path("earlier")
        harness.copy_tree(node, earlier)
        self.v.ingest(write_file(self.path("later"), b"later"))
        shutil.rmtree(node)
        harness.copy_tree(earlier, node)
        result = self.v.run("status", expect=harness.INTEGRITY)
        self.assertIn(b"earlier state", result.out)
        self.v.fsck(expect=harness.INTEGRITY)

    def test_index_deleted_or_damaged_is_rebuilt(self):
        """A cache: whatever happens to it, the log is the truth."""
        index = os.path.join(self.v.node_dirs[0], "index")
        shutil.rmtree(index)
        self.v.verify()
        self.check_everything_restores()
        for name in sorted(os.listdir(os.path.join(self.shared.saved, "0/node-0/index"))):
            self.fresh()
            path = os.path.join(index, name)
            if not os.path.isfile(path) or os.path.getsize(path) == 0:
                continue
            size = os.path.getsize(path)
            places = sorted({0, size // 2, size - 1, self.seed.randrange(size)})
            for where in places:
                with self.subTest(file=name, where=where, size=size):
                    self.fresh()
                    flip(path, where)
                    self.v.verify()
                    if FULL or where == places[len(places) // 2]:
                        self.check_everything_restores()
            with self.subTest(deleted=name):
                self.fresh()
                os.unlink(path)
                self.v.verify()
                self.check_everything_restores()

    def test_index_of_another_time(self):
        """An older index than the log: what it does not know is found in the log."""
        old = self.path("old-index")
        index = os.path.join(self.v.node_dirs[0], "index")
        harness.copy_tree(index, old)
        extra = write_file(self.path("extra"), self.seed.randbytes(400_000))
        self.v.ingest(extra, to="d")
        shutil.rmtree(index)
        harness.copy_tree(old, index)
        self.v.verify()
        with open(extra, "rb") as file:
            self.assertEqual(file.read(), self.v.cat("extra", to="d"))


class TwoDiskDamageTest(DamageCase):
    """R = 2: with one good copy left everything restores, and verify says 5 all the same."""

    NODES = ("disk-a", "disk-b")

    KINDS = (KIND_CHUNK, KIND_COMMIT)

    def test_one_copy_damaged(self):
        for kind in self.KINDS:
            for in_header in (False, True):
                with self.subTest(kind=kind, in_header=in_header):
                    self.fresh()
                    record = self.seed.choice(self.v.records(kind))
                    flip(record.path, record.offset + (
                        self.seed.choice(HEADER_OFFSETS) if in_header
                        else harness.RECORD_HEADER + self.seed.randrange(record.length)))
                    self.verify_finds(damaged=self.users_of(record), one_is_good=True)
                    self.check_everything_restores()

    def test_many_records_on_either_disk(self):
        damaged, seen = set(), set()
        for record in self.seed.sample(self.v.records(KIND_CHUNK), 12):
            if record.id in seen:
                continue
            seen.add(record.id)
            flip(record.path, record.payload_offset + self.seed.randrange(record.length))
            damaged |= self.users_of(record)
        self.verify_finds(damaged=damaged, one_is_good=True)
        self.check_everything_restores()

    def test_both_copies_damaged(self):
        records = self.v.records(KIND_CHUNK)
        victim = self.seed.choice(records).id
        both = [r for r in records if r.id == victim]
        self.assertEqual(2, len(both))
        for record in both:
            flip(record.path, record.payload_offset + record.length // 3)
        self.verify_finds(lost=self.users_of(both[0]))
        self.check_everything_restores(self.users_of(both[0]))

    def test_a_disk_is_away(self):
        os.rename(self.v.nodes[1], self.v.nodes[1] + ".away")
        self.addCleanup(self.put_back)
        result = self.v.run("ls", "-0", "c")
        self.assertTrue(result.error_lines, "a disk that is away is worth a warning")
        self.check_everything_restores()
        self.v.run("status", expect=harness.INTEGRITY)
        result = self.v.run("verify", expect=harness.FAILED)
        self.assertIn(b"NOT ALL WAS CHECKED", result.out)
        self.assertNotIn(b"Every byte", result.out)
        # Two copies are asked for and one disk is there: said at once.
        result = self.v.run("ingest", write_file(self.path("more"), b"more"), "--to", "d",
                            expect=harness.FAILED)
        self.assertLess(result.seconds, 30)

    def test_rebuild_while_disks_are_away(self):
        """What could be on the disks that are away must not be left out without a word."""
        single = self.vault("single", nodes=("a", "b"), init_args=["--replicas", "1"])
        for i in range(8):
            single.ingest(write_file(self.path(f"file{i}"), b"%d" % i))
        listing = single.ls()
        os.rename(single.nodes[1], single.nodes[1] + ".away")
        result = single.fsck("--rebuild-catalogue", expect=harness.FAILED)
        self.assertIn("--accept-loss", result.error_lines[-1])
        self.assertEqual(listing, single.ls())
        os.rename(single.nodes[1] + ".away", single.nodes[1])
        single.fsck("--rebuild-catalogue")
        self.assertEqual(listing, single.ls())
        # With two copies of every commit one disk is enough.
        os.rename(self.v.nodes[1], self.v.nodes[1] + ".away")
        self.addCleanup(self.put_back)
        result = self.v.fsck("--rebuild-catalogue")
        self.assertIn("node 1 is away", result.err.decode())
        self.assertEqual(self.shared.listing, self.v.ls())

    def put_back(self):
        if os.path.exists(self.v.nodes[1] + ".away"):
            shutil.rmtree(self.v.nodes[1], ignore_errors=True)
            os.rename(self.v.nodes[1] + ".away", self.v.nodes[1])

    def test_a_commit_record_lost_on_one_disk_rebuilds_from_the_other(self):
        record = self.seed.choice(self.v.records(KIND_COMMIT))
        flip(record.path, record.payload_offset + record.length // 2)
        shutil.rmtree(os.path.join(self.v.dir, "catalogue"))
        self.v.fsck("--rebuild-catalogue")
        self.assertEqual(self.shared.listing, self.v.ls())
        self.check_everything_restores()


class LongManifestTest(DamageCase):
    """An object of so many chunks that its list lies on the nodes, in manifest parts."""

    WITH_LONG = True

    def test_manifest_parts(self):
        (record,) = self.sample(KIND_PART, 1)
        where = self.seed.randrange(record.length)
        self.try_record(record, harness.RECORD_HEADER + where, self.seed.random() < 0.5)
        (record,) = self.sample(KIND_PART, 1)
        self.try_record(record, self.seed.choice(HEADER_OFFSETS), self.seed.random() < 0.5)

    def test_rebuild(self):
        shutil.rmtree(os.path.join(self.v.dir, "catalogue"))
        self.v.fsck("--rebuild-catalogue")
        self.check_everything_restores()
        self.v.fsck()

    def states_of_an_ingest(self):
        result = self.v.ingest(os.path.join(self.source, "s2"))
        return {harness.name_of(o): o["state"] for o in result.json_of("object")}

    def test_an_unchanged_object_puts_no_parts(self):
        before = self.v.records(KIND_PART)
        self.assertEqual({"unchanged"}, set(self.states_of_an_ingest().values()))
        self.assertEqual(before, self.v.records(KIND_PART))

    def test_a_damaged_part_is_stored_again_by_the_next_ingest(self):
        """Whether or not anybody noticed the damage before."""
        for verified in (True, False):
            with self.subTest(verified=verified):
                self.fresh()
                (record,) = self.sample(KIND_PART, 1)
                flip(record.path, record.payload_offset + record.length // 2)
                if verified:
                    self.verify_finds(lost={b"s2/long"})
                states = self.states_of_an_ingest()
                self.assertEqual("stored", states.pop(b"s2/long"))
                self.assertEqual({"unchanged"}, set(states.values()))
                self.check_everything_restores()
                self.assertEqual({"unchanged"}, set(self.states_of_an_ingest().values()))


class LongManifestTwoDiskTest(DamageCase):

    NODES = ("disk-a", "disk-b")
    WITH_LONG = True
    KINDS = (KIND_PART,)
    test_one_copy_damaged = TwoDiskDamageTest.test_one_copy_damaged

    def test_a_damaged_copy_of_a_part_is_made_again_by_the_next_ingest(self):
        (record,) = self.sample(KIND_PART, 1)
        flip(record.path, record.payload_offset + record.length // 2)
        self.verify_finds(damaged={b"s2/long"}, one_is_good=True)
        result = self.v.ingest(os.path.join(self.source, "s2"))
        self.assertEqual({"unchanged"}, {o["state"] for o in result.json_of("object")})
        self.v.verify()


class CatalogueDamageTest(DamageCase):

    def catalogue(self, *names):
        return os.path.join(self.v.dir, "catalogue", *names)

    # An encrypted file begins with 32 random bytes; a log that is no longer than that is empty.
    EMPTY_LOG = 64  # The encrypted file's prefix, and no record.

    def assert_told(self, told=True):
        """`ls` tells (5, one line), or lists all and `fsck` tells. Never a shorter listing."""
        result = self.v.run("ls", "-0", "c", expect={harness.OK, harness.INTEGRITY})
        if result.code == harness.INTEGRITY:
            self.assert_one_error_line(result)
            return
        self.assertEqual(self.shared.listing, [n.rstrip(b"/") for n in result.out.split(b"\0")[:-1]])
        result = self.v.fsck(expect=harness.INTEGRITY if told else {harness.OK, harness.INTEGRITY})
        self.assertEqual(result.code == harness.INTEGRITY, bool(result.error_lines))

    def holds_nothing(self, name):
        return self.kind(name) == "log" and os.path.getsize(self.catalogue(name)) <= self.EMPTY_LOG

    def assert_rebuilds(self):
        self.v.fsck("--rebuild-catalogue")
        self.assertEqual(self.shared.listing, self.v.ls())
        self.check_everything_restores()
        self.v.verify()
        self.v.fsck()

    @staticmethod
    def kind(name):
        return name.split("-")[0] if not name[0].isdigit() else name.split(".")[-1]

    def test_one_flipped_byte_in_every_file(self):
        rebuilt = set()
        # As they are before the first rebuild, which makes others.
        sizes = {n: os.path.getsize(self.catalogue(n)) for n in sorted(os.listdir(self.catalogue()))}
        self.assertTrue({"CURRENT", "MANIFEST"} <= {self.kind(n) for n in sizes}, sizes)
        for name, size in sizes.items():
            if size == 0:
                continue
            places = {0, 40, size // 2, size - 1}
            places |= {self.seed.randrange(size) for _ in range(60 if FULL else 3)}
            for where in sorted(p for p in places if p < size):
                with self.subTest(file=name, where=where, of=size):
                    self.fresh()
                    told = not self.holds_nothing(name)
                    flip(self.catalogue(name), where, self.seed.randrange(8))
                    self.assert_told(told)
                    if self.kind(name) not in rebuilt or FULL:
                        rebuilt.add(self.kind(name))
                        self.assert_rebuilds()

    def test_a_file_missing(self):
        for name in sorted(os.listdir(self.catalogue())):
            if os.path.getsize(self.catalogue(name)) == 0:
                continue  # LOCK, an empty log: nothing in it.
            with self.subTest(file=name):
                self.fresh()
                told = not self.holds_nothing(name)
                os.unlink(self.catalogue(name))
                self.assert_told(told)

    def test_a_file_cut_short(self):
        for name in sorted(os.listdir(self.catalogue())):
            size = os.path.getsize(self.catalogue(name))
            if size == 0:
                continue
            for to in {0, size // 2, size - 1}:
                with self.subTest(file=name, to=to, of=size):
                    self.fresh()
                    os.truncate(self.catalogue(name), to)
                    # The last entry of a log or MANIFEST may have been torn by a crash before it
                    # counted; whether it did count, the nodes know.
                    self.assert_told(self.kind(name) not in ("log", "MANIFEST"))

    def test_deleted(self):
        shutil.rmtree(self.catalogue())
        result = self.v.run("ls", "c", expect=harness.INTEGRITY)
        self.assert_one_error_line(result, "fsck --rebuild-catalogue")
        self.assertFalse(os.path.exists(self.catalogue()), "a look does not make an empty one")
        self.assert_rebuilds()
        # And the vault goes on: more goes in, and it rebuilds again.
        extra = write_file(self.path("extra"), self.seed.randbytes(300_000))
        self.v.ingest(extra, to="d")
        shutil.rmtree(self.catalogue())
        self.v.fsck("--rebuild-catalogue")
        self.assertEqual(self.shared.listing, self.v.ls())
        with open(extra, "rb") as file:
            self.assertEqual(file.read(), self.v.cat("extra", to="d"))

    def test_from_before(self):
        """A catalogue restored from an old backup is behind the nodes: refused, not believed."""
        old = self.path("old")
        harness.copy_tree(self.catalogue(), old)
        extra = write_file(self.path("extra"), self.seed.randbytes(300_000))
        self.v.ingest(extra, to="d")
        shutil.rmtree(self.catalogue())
        harness.copy_tree(old, self.catalogue())
        result = self.v.run("ls", "d", expect=harness.INTEGRITY)
        self.assert_one_error_line(result, "fsck --rebuild-catalogue")
        self.v.fsck("--rebuild-catalogue")
        with open(extra, "rb") as file:
            self.assertEqual(file.read(), self.v.cat("extra", to="d"))
        self.assertEqual(self.shared.listing, self.v.ls())

    def test_rebuild_names_a_commit_that_is_gone(self):
        record = self.seed.choice(self.v.records(KIND_COMMIT))
        flip(record.path, record.payload_offset + record.length // 2)
        shutil.rmtree(self.catalogue())
        result = self.v.fsck("--rebuild-catalogue", expect=harness.INTEGRITY)
        self.assertIn(str(record.number), result.err.decode())
        (report,) = result.json_of("rebuild")
        self.assertEqual([record.number], report["missing_commits"])
        # What other commits hold is listed and reads back; a second rebuild finds the same gap.
        listing = self.v.ls(expect={harness.OK, harness.NOT_FOUND})
        self.assertLess(set(listing), set(self.shared.listing))
        self.check_everything_restores(listed=listing, expect=None if listing else harness.NOT_FOUND)

    def assert_rebuild_tells(self, what):
        """What is lost at the end of the log leaves no gap: the nodes' own findings must tell."""
        shutil.rmtree(self.catalogue())
        result = self.v.fsck("--rebuild-catalogue", expect=harness.INTEGRITY)
        self.assertIn(what, result.err.decode())
        self.assertTrue(result.json_of("finding"), str(result))
        self.assertLess(len(self.v.ls()), len(self.shared.listing))

    def test_rebuild_from_a_log_cut_short(self):
        last = self.v.records(KIND_COMMIT)[-1]
        batch = [b for b, _ in harness.read_batches(last.path) if b < last.offset][-1]
        os.truncate(last.path, batch)
        self.assert_rebuild_tells(os.path.basename(last.path))

    def test_rebuild_without_the_last_commit_and_the_index(self):
        last = self.v.records(KIND_COMMIT)[-1]
        flip(last.path, last.offset + 16)
        shutil.rmtree(os.path.join(self.v.node_dirs[0], "index"))
        self.assert_rebuild_tells(os.path.basename(last.path))

    def test_write_ahead_log_of_a_killed_ingest(self):
        """The newest rows lie in the log only: a flip there may not shorten the listing."""
        source = self.path("source")
        harness.make_media_tree(source, harness.SEED, files=3000, mean=20_000)
        log = self.path("log")
        with open(log, "wb") as out:
            ingest = subprocess.Popen(self.v.args("ingest", source, "--to", "c", "--json", "--quiet"),
                                      stdout=out, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while ingest.poll() is None and time.monotonic() < deadline:
            with open(log, "rb") as lines:
                if sum(1 for _ in lines) > 200:
                    break
            time.sleep(0.002)
        ingest.send_signal(signal.SIGKILL)
        ingest.wait()
        with open(log, "rb") as lines:
            acknowledged = {harness.name_of(entry) for line in lines if line.endswith(b"\n")
                            for entry in [json.loads(line)] if entry["type"] == "object"}
        self.assertGreater(len(acknowledged), 100)
        acknowledged |= set(self.shared.listing)
        killed = self.path("killed")
        self.v.save(killed)
        # What the last commit held, never acknowledged, may be there or not.
        listing = set(self.v.ls())
        self.assertLessEqual(acknowledged, listing)
        for name in sorted(os.listdir(os.path.join(killed, "0/catalogue"))):
            size = os.path.getsize(os.path.join(killed, "0/catalogue", name))
            if self.kind(name) not in ("log", "MANIFEST") or size == 0:
                continue
            places = {0, size - 1} | {self.seed.randrange(size) for _ in range(80 if FULL else 5)}
            for where in sorted(places):
                with self.subTest(file=name, where=where, of=size):
                    self.v.load(killed)
                    flip(self.catalogue(name), where)
                    result = self.v.run("ls", "-0", "c", expect={harness.OK, harness.INTEGRITY})
                    if result.code == harness.OK:
                        listed = {n.rstrip(b"/") for n in result.out.split(b"\0")[:-1]}
                        self.assertLessEqual(acknowledged, listed, "a shorter listing, and no word of it")
                        self.assertLessEqual(listed, listing)
                    else:
                        self.assert_one_error_line(result)
            self.v.fsck("--rebuild-catalogue")
            self.assertLessEqual(acknowledged, set(self.v.ls()))


if __name__ == "__main__":
    harness.main()
