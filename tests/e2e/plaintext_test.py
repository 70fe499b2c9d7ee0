#!/usr/bin/env python3
"""Nothing plain on disk: no 16-byte run of known source text, no name, in any file of the vault.

Nor in the memory of a cluster's nodes; and none of the keys that open content there or in the
coordinator's.
"""

import base64
import json
import os
import random

import harness
from cluster import Cluster
from harness import BLOCK, HoldfastTest, random_bytes, write_file

RUN = 16
WORDS = b"""the exhibit was seized on arrival and sealed in the presence of two officers before it
went to the laboratory where a forensic image was taken and its digests were entered in the
register of evidence under the number of the case and the initials of the examiner""".split()


def windows(data):
    return {data[i:i + RUN] for i in range(len(data) - RUN + 1)}


def find_runs(path, wanted):
    """Offsets in the file where a 16-byte run of `wanted` begins; blocks of zeros are passed over."""
    found = []
    with open(path, "rb") as file:
        data = file.read()
    zeros = bytes(BLOCK)
    i = 0
    while i + RUN <= len(data):
        if i % BLOCK == 0 and data[i:i + BLOCK] == zeros:
            i += BLOCK
            continue
        end = min(len(data) - RUN + 1, (i // BLOCK + 1) * BLOCK)
        found += [k for k in range(i, end) if data[k:k + RUN] in wanted]
        i = end
    return found


def memory_of(daemon):
    """What the process could write to: heap, stacks, its own data; region by region."""
    pid = daemon.process.pid
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, \
            open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            where, access = line.split()[:2]
            begin, end = (int(part, 16) for part in where.split("-"))
            if "rw" not in access or line.rstrip().endswith("[vvar]"):
                continue
            memory.seek(begin)
            try:
                while begin < end:
                    some = memory.read(min(end - begin, 64 << 20))
                    if not some:
                        break
                    yield some
                    begin += len(some)
            except OSError:
                continue  # Not backed by anything.


class PlaintextTest(HoldfastTest):

    NAMES = [b"Exhibit-Vermillion-Falcon.jpg", b"interview with witness 17.mp4",
             "Zeugenaussage-\u00fcberpr\u00fcft.txt".encode(), b"not-utf8-\xff\xfe-name-of-suspect",
             b"Quartz-Directory-Of-Case", b"link-to-safe-house"]
    TARGET = b"../where/the/informant/lives"
    XATTR = b"attribute: sealed by order of the court"
    COLLECTION = "operation-nightingale-2026"

    def make_sources(self):
        rng = random.Random(harness.SEED)
        source = os.fsencode(self.new_dir("source"))
        contents = [
            b" ".join(rng.choice(WORDS) for _ in range(20_000)),      # Compressible.
            random_bytes(200_000, harness.SEED),                      # Not.
            b"0123456789abcdef<repeat>" * 8_000,                      # Hardly anything in it.
            b"short: PIN of the phone is 4711, do not write it down",
        ]
        for name, content in zip(self.NAMES, contents):
            write_file(source + b"/" + name, content)
        os.mkdir(source + b"/" + self.NAMES[4])
        os.symlink(self.TARGET, source + b"/" + self.NAMES[5])
        try:
            os.setxattr(source + b"/" + self.NAMES[0], "user.seal-of-the-examiner", self.XATTR)
        except OSError as error:
            print(f"no extended attributes here: {error}")
        return source, contents

    def check(self, vault, contents):
        wanted = set().union(*(windows(content) for content in contents))
        wanted |= windows(self.TARGET) | windows(self.XATTR)
        names = [*self.NAMES, self.COLLECTION.encode(), b"seal-of-the-examiner", b"source/"]
        files = vault.files()
        self.assertTrue(any(f.endswith(".seg") for f in files), files)
        self.assertTrue(any("/catalogue/" in f for f in files), files)
        for path in files:
            with open(path, "rb") as file:
                data = file.read()
            for name in names:
                self.assertNotIn(name, data, f"the name {name!r} stands in {path}")
                self.assertNotIn(name, os.fsencode(os.path.relpath(path, self.tmp)))
            found = find_runs(path, wanted)
            self.assertFalse(found, f"plain source text in {path} at {found[:10]}")

    def test_nothing_plain_in_any_file(self):
        source, contents = self.make_sources()
        vault = self.vault(init_args=["--chunk-size", "64KiB"])
        vault.ingest(source, to=self.COLLECTION)
        self.check(vault, contents)
        # Nor after what reading and a second ingest leave behind.
        vault.run("ls", "-l", self.COLLECTION)
        vault.verify()
        vault.restore(self.path("out"), self.COLLECTION)
        vault.ingest(source, to=self.COLLECTION)
        self.check(vault, contents)
        vault.fsck("--rebuild-catalogue")
        self.check(vault, contents)

    def test_the_search_finds_what_is_there(self):
        """This test's own eyes: a planted run is seen at any offset."""
        text = self.make_sources()[1][0]
        for offset in (0, 1, BLOCK - 7, BLOCK, 3 * BLOCK + 5):
            noise = bytearray(random_bytes(5 * BLOCK, 1))
            noise[2 * BLOCK:3 * BLOCK] = bytes(BLOCK)
            noise[offset:offset + RUN] = text[500:500 + RUN]
            path = write_file(self.path("planted"), noise)
            self.assertIn(offset, find_runs(path, windows(text)))

    def test_digests_are_not_on_disk_either(self):
        import hashlib
        source, contents = self.make_sources()
        vault = self.vault()
        vault.ingest(source, to=self.COLLECTION)
        for path in vault.files():
            with open(path, "rb") as file:
                data = file.read()
            for content in contents:
                for algorithm in ("md5", "sha1", "sha256"):
                    digest = hashlib.new(algorithm, content)
                    self.assertNotIn(digest.digest(), data, path)
                    self.assertNotIn(digest.hexdigest().encode(), data, path)

    def test_memory_of_a_cluster(self):
        source, contents = self.make_sources()
        cluster = Cluster(self, self.path("cluster"))
        cluster.ingest(source, to=self.COLLECTION)
        cluster.restore(self.path("out"), self.COLLECTION)
        cluster.verify()
        with open(cluster.key, encoding="utf-8") as file:
            keys = {name: base64.b64decode(key) for name, key in json.load(file)["keys"].items()}
        content_keys = ["k_dedup", "domain_private_key", "root_private_key", "signing_private_key"]
        secrets = {name: keys[name] for name in [*content_keys, "curve_secret_key"]}
        home = os.path.dirname(cluster.coordinator.config)
        with open(os.path.join(home, "coordinator.key"), encoding="utf-8") as file:
            catalogue_key = base64.b64decode(json.load(file)["keys"]["catalogue_key"])
        plain = {f"content {i} at {at}": content[at:at + RUN] for i, content in enumerate(contents)
                 for at in range(0, len(content) - RUN, max(RUN, len(content) // 8))}
        # That one every library that writes hexadecimal has.
        plain = {what: run for what, run in plain.items() if run != b"0123456789abcdef"}
        plain |= {f"name {name}": name for name in [*self.NAMES, self.COLLECTION.encode()]}
        for i, daemon in enumerate(cluster.daemons):
            with open(os.path.join(cluster.base, f"node-{i}", "node.key"), encoding="utf-8") as file:
                own = base64.b64decode(json.load(file)["keys"]["curve_secret_key"])
            self.search(daemon, secrets | plain | {"catalogue key": catalogue_key}, own)
        self.search(cluster.coordinator, {name: keys[name] for name in content_keys}, catalogue_key)

    def search(self, daemon, wanted, control):
        """`control` is a key that must be there: so the search sees what is."""
        seen = False
        for some in memory_of(daemon):
            seen = seen or control in some
            for what, needle in wanted.items():
                self.assertNotIn(needle, some, f"{what} in the memory of {daemon.config}")
        self.assertTrue(seen, "the search does not find what is there")

    def test_the_key_file_is_not_among_them(self):
        vault = self.vault()
        self.assertNotIn(os.path.abspath(vault.key), [os.path.abspath(f) for f in vault.files()])


if __name__ == "__main__":
    harness.main()
