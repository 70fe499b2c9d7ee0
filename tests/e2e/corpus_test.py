#!/usr/bin/env python3
"""bench/corpus: the same arguments give the same tree; its sums are true."""

import hashlib
import os

import harness
from harness import HoldfastTest


class CorpusTest(HoldfastTest):

    def setUp(self):
        super().setUp()
        if not harness.CORPUS_BINARY:
            self.skipTest("no holdfast-corpus binary")

    def corpus(self, name, *args):
        result = harness.run_command([harness.CORPUS_BINARY, "--out", self.path(name), *args])
        self.assertEqual(0, result.code, str(result))
        return result.json[0]

    def test_the_same_whatever_the_threads(self):
        self.corpus("a", "--scale", "0.01", "--threads", "1")
        self.corpus("b", "--scale", "0.01", "--threads", "5")
        self.assert_same_tree_but_for_directory_times("a", "b")
        self.corpus("c", "--scale", "0.01", "--seed", "2")
        self.assertNotEqual(self.contents("a"), self.contents("c"))

    def contents(self, name):
        entries, _, _ = harness.scan_tree(self.path(name))
        return {path: (e.size, e.digest, e.kind, e.mtime_ns if e.digest else 0)
                for path, e in entries.items()}

    def assert_same_tree_but_for_directory_times(self, a, b):
        self.assertEqual(self.contents(a), self.contents(b))

    def test_the_summary_is_true(self):
        for preset, scale in (("M", "0.02"), ("S", "0.002"), ("V", "0.02")):
            with self.subTest(preset):
                said = self.corpus(preset, "--preset", preset, "--scale", scale)
                sizes, unique = [], {}
                for top, _, names in os.walk(self.path(preset)):
                    for name in names:
                        with open(os.path.join(top, name), "rb") as file:
                            data = file.read()
                        sizes.append(len(data))
                        unique[hashlib.sha256(data).digest()] = len(data)
                self.assertEqual(said["files"], len(sizes))
                self.assertEqual(said["bytes"], sum(sizes))
                self.assertEqual(said["unique_bytes"], sum(unique.values()))
                self.assertEqual(said["files"] - said["duplicates"], len(unique))
                self.assertLessEqual(said["new_bytes"], said["unique_bytes"])

    def test_edits_of_one_kind(self):
        for kind, holds in (("tail", bytes.startswith), ("head", bytes.endswith)):
            with self.subTest(kind):
                said = self.corpus(kind, "--files", "60", "--bytes", "600000", "--duplicates", "0",
                                   "--edited", "0.4", "--edits", kind, "--sigma", "1")
                contents = []
                for top, _, names in os.walk(self.path(kind)):
                    for name in names:
                        with open(os.path.join(top, name), "rb") as file:
                            contents.append(file.read())
                # What was edited is the other one without its tail, or has something before its end.
                edited = sum(any(len(a) < len(b) and holds(b, a[-1000:] if kind == "head" else a)
                                 for b in contents) for a in contents)
                self.assertGreater(said["edited"], 0)
                self.assertGreaterEqual(edited, said["edited"])

    def test_share_of_videos(self):
        said = self.corpus("v", "--files", "40", "--bytes", "4000000", "--duplicates", "0", "--edited",
                           "0", "--videos", "0.5")
        self.assertEqual(20, said["videos"])
        said = self.corpus("i", "--files", "40", "--bytes", "4000000", "--videos", "0")
        self.assertEqual(0, said["videos"])

    def test_bad_arguments(self):
        for args in (["--preset", "X"], ["--scale", "0"], ["--duplicates", "1"], ["--videos", "2"],
                     ["--edits", "sideways"]):
            result = harness.run_command([harness.CORPUS_BINARY, "--out", self.path("x"), *args])
            self.assertNotEqual(0, result.code)
        result = harness.run_command([harness.CORPUS_BINARY, "--out", "/", "--scale", "0.001"])
        self.assertEqual(1, result.code)
        self.assert_one_error_line(result, "not empty")


if __name__ == "__main__":
    harness.main()
