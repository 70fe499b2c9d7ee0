#!/usr/bin/env python3
"""A full disk: a clear line, nothing acknowledged lost, and it goes on when there is space again."""

import hashlib
import os
import tempfile

import harness
from harness import MIB, HoldfastTest, random_bytes, write_file


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


if __name__ == "__main__":
    harness.main()
