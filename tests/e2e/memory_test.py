#!/usr/bin/env python3
"""Memory does not grow with the source: a large file, and very many small ones, in under 512 MiB.

Quick: 1 GB and 20,000 files. Full: 20 GB and a million. Ingest, verify, restore or cat, and ls
are all held to it, with default settings.
"""

import os
import random
import shutil

import harness
from harness import FULL, MIB, HoldfastTest

LIMIT = 512 * MIB


class MemoryTest(HoldfastTest):

    def assert_small(self, what, result):
        print(f"{what}: peak {result.max_rss_bytes / MIB:.0f} MiB, {result.seconds:.1f} s", flush=True)
        self.assertLess(result.max_rss_bytes, LIMIT, what)

    def make_large_file(self, path, size, data_bytes):
        """`data_bytes` of random data, evenly spread over `size`; holes between."""
        rng = random.Random(harness.SEED)
        block = 4 * MIB
        stride = max(block, size * block // data_bytes // 4096 * 4096)
        with open(path, "wb") as file:
            for begin in range(0, size, stride):
                file.seek(begin)
                file.write(rng.randbytes(min(block, size - begin)))
            file.truncate(size)

    def test_large_file(self):
        size = 20 * 10**9 if FULL else 10**9
        data_bytes = size if FULL else size // 4
        room = harness.free_bytes(self.tmp)
        # Source, vault, and as much again for others who work on this disk.
        if room < 3 * data_bytes:
            data_bytes = max(size // 16, room // 4)
        print(f"{size / 1e9:.0f} GB with {data_bytes / 1e9:.1f} GB of data in it")
        if room < 3 * data_bytes:
            self.skipTest(f"{room / 1e9:.1f} GB free are too few")
        source = self.path("large")
        self.make_large_file(source, size, data_bytes)
        vault = self.vault()
        result = vault.ingest(source, timeout=3600)
        self.assertEqual(size, result.summary["bytes"])
        self.assert_small("ingest of a large file", result)
        again = self.vault("threads")
        self.assert_small("the same with 32 threads",
                          again.ingest(source, "--threads", "32", timeout=3600))
        shutil.rmtree(again.dir)
        self.assert_small("verify", vault.verify(timeout=3600))
        os.unlink(source)
        with open(os.devnull, "wb") as nowhere:
            self.assert_small("cat", vault.run("cat", "c/large", stdout=nowhere, timeout=3600))
        if harness.free_bytes(self.tmp) > 2 * data_bytes:
            self.assert_small("restore", vault.restore(self.path("out"), timeout=3600))
            self.assertEqual(size, os.path.getsize(self.path("out/large")))

    def test_many_small_files(self):
        count = 1_000_000 if FULL else 20_000
        if harness.free_bytes(self.tmp) < count * 20_000:
            self.skipTest("too little space")
        source = self.new_dir("source")
        rng = random.Random(harness.SEED)
        for i in range(count):
            if i % 5_000 == 0:
                directory = os.path.join(source, f"{i:07}")
                os.mkdir(directory)
            fd = os.open(os.path.join(directory, f"file-with-a-longish-name-{i:07}.jpg"),
                         os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(fd, rng.randbytes(rng.randrange(1, 3000)))
            os.close(fd)
        vault = self.vault()
        with open(self.path("log"), "wb") as log:
            result = vault.run("ingest", source, "--to", "c", "--json", "--quiet", stdout=log,
                               timeout=3600)
        self.assert_small(f"ingest of {count} files", result)
        with open(self.path("log"), "rb") as log:
            acknowledged = sum(1 for line in log if b'"object"' in line)
        self.assertEqual(count + 1 + -(-count // 5_000), acknowledged)
        with open(self.path("log"), "wb") as log:
            self.assert_small("ls", vault.run("ls", "c", stdout=log, timeout=600))
            self.assert_small("ls -l", vault.run("ls", "-l", "c", stdout=log, timeout=1200))
        with open(self.path("log"), "wb") as log:
            result = vault.run("ingest", source, "--to", "c", "--json", "--quiet", stdout=log,
                               timeout=3600)
        self.assert_small("ingest again", result)
        self.assert_small("verify", vault.verify(timeout=3600))
        self.assert_small("restore", vault.restore(self.path("out"), timeout=3600))
        self.assertEqual(count, sum(len(names) for _, _, names in os.walk(self.path("out"))))


if __name__ == "__main__":
    harness.main()
