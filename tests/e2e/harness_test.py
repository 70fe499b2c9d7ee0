#!/usr/bin/env python3
"""The harness itself: it must see each kind of difference, or the other tests mean nothing."""

import os
import shutil

import harness
from harness import HoldfastTest, write_file


class HarnessTest(HoldfastTest):

    def setUp(self):
        super().setUp()
        source = self.new_dir("a")
        os.mkdir(os.path.join(source, "d"))
        write_file(os.path.join(source, "d", "f"), b"x" * 100)
        os.link(os.path.join(source, "d", "f"), os.path.join(source, "g"))
        os.symlink("d/f", os.path.join(source, "s"))
        harness.copy_tree(source, self.path("b"))

    def assert_seen(self, words):
        with self.assertRaises(AssertionError) as caught:
            self.assert_same_tree(self.path("a"), self.path("b"))
        self.assertIn(words, str(caught.exception))

    def test_a_copy_is_the_same(self):
        self.assert_same_tree(self.path("a"), self.path("b"), sparse=True)

    def test_content(self):
        times = os.stat(self.path("b/g"))
        harness.flip(self.path("b/g"), 50)
        os.utime(self.path("b/g"), ns=(times.st_atime_ns, times.st_mtime_ns))
        self.assert_seen("digest")

    def test_mtime_to_the_nanosecond(self):
        times = os.stat(self.path("b/g"))
        os.utime(self.path("b/g"), ns=(times.st_atime_ns, times.st_mtime_ns + 1))
        self.assert_seen("mtime_ns")

    def test_mode(self):
        os.chmod(self.path("b/d"), 0o700)
        self.assert_seen("mode")

    def test_missing_and_extra(self):
        os.unlink(self.path("b/s"))
        self.assert_seen("missing")
        os.unlink(self.path("a/s"))
        shutil.rmtree(self.path("a/d"))
        self.assert_seen("not in the source")

    def test_hard_link_broken(self):
        data = os.stat(self.path("b/g"))
        shutil.copy2(self.path("b/g"), self.path("b/h"))
        os.replace(self.path("b/h"), self.path("b/g"))
        self.assertEqual(data.st_mtime_ns, os.stat(self.path("b/g")).st_mtime_ns)
        self.assert_seen("one file in the source only")

    def test_link_target(self):
        times = os.lstat(self.path("b/s"))
        os.unlink(self.path("b/s"))
        os.symlink("d/x", self.path("b/s"))
        os.utime(self.path("b/s"), ns=(times.st_atime_ns, times.st_mtime_ns), follow_symlinks=False)
        self.assert_seen("link was")

    def test_xattr(self):
        try:
            os.setxattr(self.path("b/d"), "user.x", b"1")
        except OSError as error:
            self.skipTest(f"no extended attributes here: {error}")
        self.assert_seen("xattrs")

    def test_timeout_ends_the_command(self):
        with self.assertRaises(AssertionError):
            harness.run_command(["sleep", "60"], timeout=0.2)

    def test_peak_memory_is_the_commands_own(self):
        small = harness.run_command(["true"]).max_rss_bytes
        large = harness.run_command(["python3", "-c", "x = b'1' * (300 << 20)"]).max_rss_bytes
        self.assertLess(small, 200 << 20)
        self.assertGreater(large, 300 << 20)


if __name__ == "__main__":
    harness.main()
