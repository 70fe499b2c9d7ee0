#!/usr/bin/env python3
"""The ingest-only key: it ingests, deduplicates and lists names; it cannot read."""

import os

import harness
from harness import MIB, HoldfastTest, random_bytes, write_file


class IngestOnlyTest(HoldfastTest):

    def setUp(self):
        super().setUp()
        self.v = self.vault()
        self.data = random_bytes(2 * MIB, harness.SEED)
        self.object = write_file(self.path("object"), self.data)
        self.ingest_key = self.path("ingest-key")
        self.v.run("key", "export", "--ingest-only", "--out", self.ingest_key)

    def test_it_is_a_key_file_for_its_owner_only(self):
        self.assertEqual(0o600, os.stat(self.ingest_key).st_mode & 0o7777)

    def test_ingest_and_names(self):
        result = self.v.ingest(self.object, key=self.ingest_key)
        self.assertEqual("stored", result.json_of("object")[0]["state"])
        self.assertEqual([b"object"], self.v.ls(key=self.ingest_key))
        self.assertEqual(b"c\n", self.v.run("ls", key=self.ingest_key).out)
        self.v.run("status", key=self.ingest_key)
        # The full key reads what the other stored.
        self.assertEqual(self.data, self.v.cat("object"))
        self.v.verify()

    def test_it_does_not_read(self):
        self.v.ingest(self.object)
        out = self.path("out")
        for verb in (["cat", "c/object"], ["cat", "c/object", "--range", "0-0"], ["ls", "-l", "c"],
                     ["stat", "c/object"], ["restore", "c", "--to", out], ["verify"],
                     ["verify", "c/object"]):
            result = self.v.run(*verb, key=self.ingest_key, expect=harness.ACCESS)
            self.assertEqual(b"", result.out, str(result))
            self.assert_one_error_line(result)
        self.assertFalse(os.path.exists(os.path.join(out, "object")))

    def test_it_deduplicates(self):
        self.v.ingest(self.object)
        before = self.v.chunk_bytes()
        again = self.v.ingest(self.object, key=self.ingest_key)
        self.assertEqual("unchanged", again.json_of("object")[0]["state"])
        other = self.v.ingest(self.object, to="other", key=self.ingest_key)
        self.assertEqual("stored", other.json_of("object")[0]["state"])
        self.assertEqual(0, other.summary["stored_bytes"])
        self.assertEqual(before, self.v.chunk_bytes())
        self.assertEqual(self.data, self.v.cat("object", to="other"))

    def test_it_makes_no_full_key(self):
        out = self.path("k2")
        result = self.v.run("key", "export", "--ingest-only", "--out", out, key=self.ingest_key,
                            expect=None)
        if result.code == 0:  # A copy of itself is harmless.
            self.v.ingest(self.object)
            self.v.run("cat", "c/object", key=out, expect=harness.ACCESS)

    def test_it_is_not_the_full_key_with_a_flag(self):
        """Nothing of the private key lies in the exported file: the full one is longer."""
        with open(self.v.key, "rb") as full, open(self.ingest_key, "rb") as part:
            self.assertLess(len(part.read()), len(full.read()))


if __name__ == "__main__":
    harness.main()
