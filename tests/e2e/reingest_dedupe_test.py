#!/usr/bin/env python3
"""What is stored already is not stored again: the same tree, the same content, nearly the same."""

import os
import random
import shutil

import harness
from harness import MIB, HoldfastTest, random_bytes, write_file


class ReingestTest(HoldfastTest):

    def test_again_stores_no_new_chunk_bytes(self):
        source = self.path("source")
        harness.make_media_tree(source, harness.SEED, files=150, mean=100_000, large=[12 * MIB])
        os.symlink("nowhere", os.path.join(source, "link"))
        os.mkdir(os.path.join(source, "empty"))
        vault = self.vault()
        first = vault.ingest(source)
        self.assertEqual(0, len([o for o in first.json_of("object") if o["state"] != "stored"]))
        chunks = sorted(r.id for r in vault.records(harness.KIND_CHUNK))
        self.assertEqual(len(chunks), len(set(chunks)))
        versions = vault.run("status", "--json").json[-1]["versions"]

        again = vault.ingest(source)
        self.assertEqual({"unchanged"}, {o["state"] for o in again.json_of("object")})
        self.assertEqual(len(first.json_of("object")), len(again.json_of("object")))
        self.assertEqual(0, again.summary["stored_bytes"])
        self.assertEqual(first.summary["files"], again.summary["files"])
        self.assertEqual(chunks, sorted(r.id for r in vault.records(harness.KIND_CHUNK)))
        self.assertEqual(versions, vault.run("status", "--json").json[-1]["versions"])

    def test_another_mtime_is_no_new_version(self):
        path = write_file(self.path("object"), b"the same")
        vault = self.vault()
        vault.ingest(path)
        os.utime(path, ns=(1, 1))
        (line,) = vault.ingest(path).json_of("object")
        self.assertEqual("unchanged", line["state"])

    def test_one_content_under_a_hundred_names_is_stored_once(self):
        source = self.new_dir("source")
        data = random_bytes(3 * MIB, harness.SEED)
        for i in range(100):
            write_file(os.path.join(source, f"name{i:03}"), data)
        vault = self.vault()
        result = vault.ingest(source)
        self.assertEqual(99, result.summary["duplicates"])
        stored = vault.chunk_bytes()
        self.assertGreaterEqual(stored, len(data))
        self.assertLess(stored, 1.02 * len(data))
        self.assertLess(result.summary["stored_bytes"], 1.02 * len(data))
        self.assertLess(tree_allocated(vault), 2.5 * len(data))
        for name in ("name000", "name042", "name099"):
            self.assertEqual(data, vault.cat("source/" + name))

    def test_other_collections_share_chunks(self):
        path = write_file(self.path("object"), random_bytes(2 * MIB, harness.SEED))
        vault = self.vault()
        vault.ingest(path, to="case-1")
        before = vault.chunk_bytes()
        result = vault.ingest(path, to="case-2")
        self.assertEqual("stored", result.json_of("object")[0]["state"])
        self.assertEqual(0, result.summary["stored_bytes"])
        self.assertEqual(before, vault.chunk_bytes())

    def test_two_vaults_share_no_chunk_id(self):
        """Ids say nothing about content without the key."""
        path = write_file(self.path("object"), random_bytes(MIB, harness.SEED))
        ids = []
        for name in ("v1", "v2"):
            vault = self.vault(name)
            vault.ingest(path)
            ids.append({r.id for r in vault.records(harness.KIND_CHUNK)})
        self.assertFalse(ids[0] & ids[1])

    def test_an_edited_copy_shares_most_chunks(self):
        data = random_bytes(24 * MIB, harness.SEED)
        edited = data[:1000] + b"inserted" * 8 + data[1000:15 * MIB] + data[15 * MIB + 777:]
        vault = self.vault(init_args=["--chunk-size", "64KiB"])
        vault.ingest(write_file(self.path("object"), data))
        result = vault.ingest(write_file(self.path("edited"), edited))
        self.assertLess(result.summary["stored_bytes"], 2 * MIB)
        self.assertEqual(edited, vault.cat("edited"))

    def test_chunks_do_not_depend_on_threads_or_neighbours(self):
        source = self.path("source")
        harness.make_media_tree(source, harness.SEED, files=40, mean=200_000, large=[9 * MIB])
        whole = self.vault("v1")
        # The same vault a second time, as it was when it was new.
        other = self.vault("v2", make=False)
        shutil.copy(whole.key, other.key)
        harness.copy_tree(whole.dir, other.dir)
        whole.ingest(source + "/.", "--threads", "1")
        ids = {r.id for r in whole.records(harness.KIND_CHUNK)}
        rng = random.Random(harness.SEED)
        names = sorted(os.path.join(top, n) for top, _, ns in os.walk(source) for n in ns)
        rng.shuffle(names)
        # The same ids, in whatever order files come.
        for begin in range(0, len(names), 10):
            other.ingest(*names[begin:begin + 10], "--threads", "3")
        self.assertEqual(ids, {r.id for r in other.records(harness.KIND_CHUNK)})


def tree_allocated(vault):
    return sum(os.lstat(path).st_blocks * 512 for path in vault.files())


if __name__ == "__main__":
    harness.main()
