#!/usr/bin/env python3
"""rm: what is removed is gone from sight, comes back, and goes for good."""

import os

import harness
from harness import HoldfastTest, random_bytes, write_file


class RemoveTest(HoldfastTest):

    def setUp(self):
        super().setUp()
        self.v = self.vault()
        self.source = self.new_dir("s")
        self.new_dir("s", "d", "e")
        for i, name in enumerate(["a", "d/1", "d/e/2", "z"]):
            write_file(os.path.join(self.source, name), random_bytes(50_000, harness.SEED + i))
        os.link(os.path.join(self.source, "a"), os.path.join(self.source, "linked"))
        self.v.ingest(self.source)
        self.all = [b"s", b"s/a", b"s/d", b"s/d/1", b"s/d/e", b"s/d/e/2", b"s/linked", b"s/z"]

    def rm(self, *args, **kwargs):
        return self.v.run("rm", *args, **kwargs)

    def removed(self):
        """The names that `ls --removed` gives, in its order."""
        lines = self.v.run("ls", "--removed", "c").out.splitlines()
        return [line.split(b"  ", 3)[3] for line in lines]

    def test_away_and_back(self):
        # What is not there does not keep the others.
        self.rm("c/none", "c/s/a", "c/s/z", expect=harness.NOT_FOUND)
        self.assertEqual([n for n in self.all if n not in (b"s/a", b"s/z")], self.v.ls())
        self.v.run("cat", "c/s/a", expect=harness.NOT_FOUND)
        self.assertEqual([b"c/s/a", b"c/s/z"], self.removed())
        self.assertEqual(len(self.all) - 2, self.v.verify().summary["objects"])
        # The other name of one file has chunks of its own to be restored from.
        self.v.restore(self.path("without"))
        with open(self.path("without", "s", "linked"), "rb") as linked:
            self.assertEqual(random_bytes(50_000, harness.SEED), linked.read())
        self.assertFalse(os.path.exists(self.path("without", "s", "a")))
        line, = self.rm("--undo", "-r", "c", "--json").json_of("removal")
        self.assertEqual(("undo", 2, 2), (line["action"], line["objects"], line["versions"]))
        self.v.restore(self.path("out"))
        self.assert_same_tree(self.source, self.path("out", "s"))
        self.v.fsck()

    def test_for_good_and_rebuilt(self):
        for args in (["c"], ["c/"], ["--now", "--undo", "c/s/a"], ["--version", "12", "c/s/a"]):
            self.assert_one_error_line(self.rm(*args, expect=harness.USAGE))
        key = self.path("ingest-key")
        self.v.run("key", "export", "--ingest-only", "--out", key)
        result = self.rm("c/s/a", key=key, expect=harness.ACCESS)
        self.assert_one_error_line(result, "not remove")
        self.assertEqual(harness.FAILED, self.rm("c/s/d", expect=None).code)
        version = self.v.run("stat", "c/s/z", "--json").json[0]["version"]
        result = self.rm("c/s/z", "--version", version)
        self.assertRegex(result.out.decode(), r"^removed 1 object, 1 version; .*--undo")
        self.rm("--now", "-r", "c/s/d/")
        left = [b"s", b"s/a", b"s/linked"]
        for rebuilt in (False, True):
            if rebuilt:
                self.v.run("fsck", "--rebuild-catalogue")
            self.assertEqual(left, self.v.ls())
            self.assertEqual([b"c/s/z"], self.removed())
        # It is stored again like anything new.
        self.v.ingest(self.source)
        self.assertEqual(self.all, self.v.ls())
        self.v.fsck()


if __name__ == "__main__":
    harness.main()
