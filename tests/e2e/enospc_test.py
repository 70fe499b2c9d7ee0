#!/usr/bin/env python3
"""A full disk: a clear line, nothing acknowledged lost, and it goes on when there is space again."""

import contextlib
import hashlib
import os
import random
import tempfile

import harness
from faults import Faults
from gc_test import GcCase
from harness import FULL, MIB, HoldfastTest, random_bytes, write_file


class FullDiskTest(HoldfastTest):

    DISK_MIB = 64

    def setUp(self):
        super().setUp()
        self.mount = harness.SmallDisk(self, self.DISK_MIB).path

    def fill_up_and_go_on(self, vault, filler):
        source = self.new_dir("source")
        for i in range(200):
            write_file(os.path.join(source, f"file{i:03}"), random_bytes(MIB, harness.SEED + i))
        result = vault.ingest(source, expect={harness.FAILED, harness.SOME_FAILED})
        self.assertTrue(result.error_lines, str(result))
        self.assertRegex(result.err.decode().lower(), "space|full")
        if result.code == harness.FAILED:
            self.assert_one_error_line(result)
        acknowledged = [o for o in result.json_of("object")]
        files = [harness.name_of(o) for o in acknowledged if b"/file" in harness.name_of(o)]
        print(f"{len(files)} of 200 files acknowledged before the disk was full (exit {result.code})")
        self.assertLess(len(files), 60)

        # Full as it is, what was acknowledged is listed and reads back.
        listed = set(vault.ls(expect={harness.OK, harness.NOT_FOUND}))
        for name in files:
            self.assertIn(name, listed)
            number = int(name[-3:])
            self.assertEqual(hashlib.sha256(random_bytes(MIB, harness.SEED + number)).digest(),
                             hashlib.sha256(vault.cat(name)).digest(), name)
        vault.run("status", expect=harness.OK)
        vault.verify()
        # Again into the full disk: no worse.
        vault.ingest(source, expect={harness.FAILED, harness.SOME_FAILED})

        os.unlink(filler)
        more = self.new_dir("more")
        for i in range(8):
            write_file(os.path.join(more, f"more{i}"), random_bytes(MIB, harness.SEED + 1000 + i))
        vault.ingest(more, to="d")
        self.assertEqual(9, len(vault.ls("d")))
        vault.restore(self.path("out"), "d")
        self.assert_same_tree(more, self.path("out/more"))
        for name in files:
            self.assertIn(name, vault.ls())
        vault.verify()
        vault.fsck()

    def test_whole_vault_on_a_small_disk(self):
        filler = write_file(os.path.join(self.mount, "filler"), bytes(20 * MIB))
        os.sync()
        vault = harness.Vault(self, self.mount)
        self.fill_up_and_go_on(vault, filler)

    def test_chunks_alone_on_a_small_disk(self):
        filler = write_file(os.path.join(self.mount, "filler"), bytes(20 * MIB))
        os.sync()
        vault = harness.Vault(self, self.new_dir("v"), init_args=["--node", self.path("mount/disk")])
        vault.nodes = [self.path("mount/disk")]
        self.fill_up_and_go_on(vault, filler)

    def test_no_room_for_the_restore(self):
        with tempfile.TemporaryDirectory(prefix="holdfast-e2e.") as base:
            source = os.path.join(base, "source")
            os.mkdir(source)
            for i in range(80):
                write_file(os.path.join(source, f"file{i:03}"), random_bytes(MIB, harness.SEED + i))
            home = os.path.join(base, "v")
            os.mkdir(home)
            vault = harness.Vault(self, home)
            vault.ingest(source)
            result = vault.restore(os.path.join(self.mount, "out"),
                                   expect={harness.FAILED, harness.SOME_FAILED})
            self.assertRegex(result.err.decode().lower(), "space|full")
            # What is there under a name is whole.
            for top, _, names in os.walk(os.path.join(self.mount, "out")):
                for name in names:
                    with open(os.path.join(top, name), "rb") as got, \
                            open(os.path.join(source, name), "rb") as want:
                        self.assertEqual(want.read(), got.read(), name)


class FullDiskGcTest(GcCase):
    """rm and gc on a disk that takes no more chunks; reading on one that takes nothing at all."""

    DISK_MIB, FILE = (72, MIB) if FULL else (40, MIB // 2)
    A_LITTLE = 4 * MIB  # "A few MiB", as docs/operations.md says.

    def fill(self):
        """Batches, each in a segment of its own, until one does not fit; how many did."""
        faults = Faults(self)
        # A log that was not closed is not gone on with.
        faults.set("unlink */door 2 1 kill")
        self.source = self.new_dir("s")
        for i in range(20):
            batch = os.path.join(self.source, f"b{i}")
            os.mkdir(batch)
            for k in range(6):
                write_file(os.path.join(batch, f"f{k}"),
                           random_bytes(self.FILE, f"{harness.SEED} {i} {k}"))
            result = self.v.ingest(batch, env=faults.env, expect=None)
            if result.code != -9 or len(result.json_of("object")) < 7:
                # Opening the vault again gives back what the one that ended had reserved.
                result = self.v.ingest(batch, expect={harness.OK, harness.FAILED, harness.SOME_FAILED})
                if result.code == harness.OK:
                    continue
                self.assertRegex(result.err.decode().lower(), "space|full|room")
                self.v.run("rm", "--now", "-r", f"c/b{i}", expect={harness.OK, harness.NOT_FOUND})
                return i
        self.fail("the disk does not get full")

    def fill_the_rest(self, filler):
        with open(filler, "ab", buffering=0) as file:
            for size in (MIB, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass
        self.assertLess(harness.free_bytes(os.path.dirname(filler)), 4096)

    def leave(self, filler, size):
        os.truncate(filler, os.path.getsize(filler) - size)
        os.sync()

    def must_read(self, batches):
        self.v.run("status")
        self.v.run("ls", "c")
        with open(os.path.join(self.source, batches[-1], "f0"), "rb") as file:
            self.assertEqual(file.read(), self.v.cat(f"{batches[-1]}/f0"))
        self.v.verify()
        self.must_restore(*batches)

    def nothing_free(self):
        """Opening a vault writes a few KiB: it may not be done, and then it says why."""
        for args in (["status"], ["ls", "c"], ["verify"], ["gc", "--grace", "0"]):
            result = self.v.run(*args, expect={harness.OK, harness.FAILED, harness.SOME_FAILED})
            print(f"nothing free: {args[0]} exits {result.code}")
            if result.code != harness.OK:
                self.assert_one_error_line(result)
                self.assertRegex(result.err.decode().lower(), "space|room")

    def gc_of_dead_segments(self, filler, batches):
        """On a disk that stays full but for a little: whole segments go, nothing else is harmed."""
        disk = os.path.dirname(filler)
        gone, batches[:] = batches[:2], batches[2:]
        self.v.run("rm", "-r", *[f"c/{name}" for name in gone])
        before, room = harness.free_bytes(disk), os.path.getsize(filler)
        self.assertLess(before, self.A_LITTLE + 64 * 1024)
        report = self.gc("--undo-window", "0", "--grace", "0")
        given_back = harness.free_bytes(disk) - before
        self.assertEqual(room, os.path.getsize(filler))
        print(f"{before / MIB:.1f} MiB free: {given_back / MIB:.1f} MiB of "
              f"{report['freed_segments']} segments given back")
        self.assertGreaterEqual(report["freed_segments"], len(gone))
        self.assertGreater(given_back, 6 * len(gone) * self.FILE * 0.9)
        self.must_read(batches)

    def test_gc_gives_space_back(self):
        disk = harness.SmallDisk(self, self.DISK_MIB, in_memory=True).path
        self.v = harness.Vault(self, disk)
        # More than is left of itself when no more chunks fit.
        filler = write_file(os.path.join(disk, "filler"), bytes(self.A_LITTLE))
        count = self.fill()
        batches = [f"b{i}" for i in range(count)]
        self.assertGreaterEqual(count, 6)
        print(f"{count} batches, {harness.free_bytes(disk) / MIB:.1f} MiB free")
        self.must_read(batches)
        self.fill_the_rest(filler)
        self.nothing_free()
        # With a little room all of it can be read, and collected.
        self.leave(filler, MIB)
        self.must_read(batches)
        self.leave(filler, self.A_LITTLE - harness.free_bytes(disk))
        rng = random.Random(harness.SEED)
        rng.shuffle(batches)
        self.must_read(batches)
        self.gc_of_dead_segments(filler, batches)
        os.unlink(filler)
        # Whole segments, and half of each of the others.
        gone, half = batches[:1], batches[1:]
        some = [f"{batch}/f{k}" for batch in half for k in rng.sample(range(6), 3)]
        self.v.run("rm", "-r", *[f"c/{name}" for name in gone + some])
        before = harness.free_bytes(disk)
        result = self.v.run("gc", "--undo-window", "0", "--grace", "0",
                            expect={harness.OK, harness.SOME_FAILED})
        given_back = harness.free_bytes(disk) - before
        print(f"{given_back / MIB:.1f} MiB given back")
        self.assertGreater(given_back, (6 + 3 * len(half)) * self.FILE * 0.9)
        self.must_be_tight()
        self.v.fsck()
        self.v.verify()
        more = self.new_dir("more")
        for k in range(12):
            write_file(os.path.join(more, f"f{k}"), random_bytes(self.FILE, f"{harness.SEED} more {k}"))
        self.v.ingest(more, to="d")
        self.v.restore(self.path("d"), "d")
        self.assert_same_tree(more, self.path("d/more"))
        self.v.verify()


if __name__ == "__main__":
    harness.main()
