#!/usr/bin/env python3
"""Reading a vault in a directory while another command works on it, through that command's process."""

import contextlib
import os
import signal
import subprocess
import time

import harness
from harness import ACCESS, BUSY, NOT_FOUND, HoldfastTest


class DoorTest(HoldfastTest):

    def setUp(self):
        super().setUp()
        self.source = self.path("source")
        harness.make_media_tree(self.source, harness.SEED, files=80, mean=100_000, large=[9_000_000])
        self.names, _, _ = harness.scan_tree(self.source)

    def hold(self, vault):
        """An ingest that goes on until finish(): of four terabytes of zeros."""
        endless = self.path("endless")
        with open(endless, "wb") as file:
            file.truncate(1 << 42)
        with open(self.path("holder"), "wb") as out:
            self.holder = subprocess.Popen(vault.args("ingest", endless, "--to", "endless", "--quiet"),
                                           stdout=out, stderr=out)
        self.addCleanup(self.finish, signal.SIGKILL)
        # The source is opened after all else is.
        deadline = time.monotonic() + 60
        while endless not in self.files_of_holder():
            self.assertLess(time.monotonic(), deadline)
            self.assertIsNone(self.holder.poll())
            time.sleep(0.01)

    def files_of_holder(self):
        base = f"/proc/{self.holder.pid}/fd"
        found = set()
        with contextlib.suppress(OSError):
            for fd in os.listdir(base):
                with contextlib.suppress(OSError):
                    found.add(os.readlink(os.path.join(base, fd)))
        return found

    def finish(self, sig=signal.SIGTERM):
        if self.holder.poll() is None:
            self.holder.send_signal(sig)
        self.holder.wait(timeout=60)

    def read_a_little(self, vault):
        self.assertEqual(len(self.names), len(vault.ls()))
        vault.run("status")
        name = "source/large0.mp4"
        with open(os.path.join(self.source, "large0.mp4"), "rb") as file:
            self.assertEqual(file.read(), vault.cat(name))
        vault.run("stat", "c/" + name)
        for name in vault.ls()[-5:]:
            path = os.path.join(os.fsencode(self.path()), name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    self.assertEqual(file.read(), vault.cat(os.fsdecode(name)))

    def test_reading_while_an_ingest_works(self):
        for kind, nodes in (("one", ()), ("two", ("disk-a", "disk-b"))):
            with self.subTest(kind):
                vault = self.vault(kind, nodes=nodes)
                vault.ingest(self.source)
                self.hold(vault)
                self.read_a_little(vault)
                self.assertIsNone(self.holder.poll(), "the ingest was over too soon")
                # What writes, or reads all, is for one at a time.
                for verb in (["ingest", self.source, "--to", "d"], ["verify"], ["fsck"],
                             ["restore", "c", "--to", self.path("out")]):
                    result = vault.run(*verb, expect=BUSY)
                    self.assert_one_error_line(result)
                vault.run("ls", "nowhere", expect=NOT_FOUND)
                self.finish()
                vault.verify()
                self.assertFalse(os.path.exists(os.path.join(vault.dir, "door")))
                os.unlink(self.path("endless"))

    def test_who_gets_in(self):
        vault = self.vault()
        vault.ingest(self.source)
        blind, other = self.path("blind"), self.vault("other")
        vault.run("key", "export", "--ingest-only", "--out", blind)
        self.hold(vault)
        self.assertEqual(len(self.names), len(vault.ls(key=blind)))
        vault.run("cat", "c/source/large0.mp4", key=blind, expect=ACCESS)
        vault.run("ls", "c", key=other.key, expect=ACCESS)
        # Whoever is stopped answers nobody.
        self.holder.send_signal(signal.SIGSTOP)
        self.assert_one_error_line(vault.run("ls", "c", expect=BUSY, timeout=30))
        self.holder.send_signal(signal.SIGCONT)
        self.read_a_little(vault)

    def test_a_killed_command_leaves_no_closed_door(self):
        vault = self.vault()
        vault.ingest(self.source)
        self.hold(vault)
        self.finish(signal.SIGKILL)
        self.assertTrue(os.path.exists(os.path.join(vault.dir, "door")))
        self.read_a_little(vault)
        self.hold(vault)
        self.read_a_little(vault)

    def test_where_no_socket_can_be(self):
        """Its path is longer than a socket's may be: the vault is for one at a time."""
        deep = self.new_dir("d" * 120)
        vault = harness.Vault(self, deep)
        vault.ingest(self.source)
        self.hold(vault)
        self.assert_one_error_line(vault.run("ls", "c", expect=BUSY))
        self.finish()
        vault.verify()


if __name__ == "__main__":
    harness.main()
