#!/usr/bin/env python3
"""Nothing plain on disk: no 16-byte run of known source text, no name, in any file of the vault."""

import os
import random

import harness
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

    def test_the_key_file_is_not_among_them(self):
        vault = self.vault()
        self.assertNotIn(os.path.abspath(vault.key), [os.path.abspath(f) for f in vault.files()])


if __name__ == "__main__":
    harness.main()
