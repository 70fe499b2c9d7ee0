#!/usr/bin/env python3
"""scripts/quickstart.sh, as the README gives it, on a small directory."""

import os
import re
import shutil
import unittest

import harness
from harness import HoldfastTest, write_file

SCRIPT = os.path.join(harness.ROOT, "scripts/quickstart.sh")


class QuickstartTest(HoldfastTest):

    def setUp(self):
        super().setUp()
        self.work = self.new_dir("tmp")

    def run_script(self, *args):
        # Set-up finds all packages installed and the build finds nothing to do: seconds.
        return harness.run_command([SCRIPT, *args], timeout=900, cwd="/",
                                   env={**os.environ, "TMPDIR": self.work})

    @unittest.skipUnless(shutil.which("apt-get"), "not on Debian: it would install nothing here")
    @unittest.skipUnless(os.path.exists(os.path.join(harness.ROOT, "build/release/holdfast")),
                         "build/release is not built, and building it takes minutes")
    def test_the_whole_job(self):
        source = self.new_dir("a source")
        for i in range(50):
            write_file(os.path.join(source, f"file {i}\n"), os.urandom(20_000))
        write_file(os.path.join(source, "again"), b"the same" * 5_000)
        shutil.copy2(os.path.join(source, "again"), os.path.join(source, "and again"))
        os.symlink("nowhere", os.path.join(source, "link"))
        os.mkdir(os.path.join(source, "empty"))
        result = self.run_script(source)
        self.assertEqual(0, result.code, str(result))
        out = result.out.decode()
        for line in (r"files       52", r"bytes       1\.03 MiB", r"duplicates  1 files were stored already",
                     r"stored      \d.* of sealed chunks; the vault takes \d.*",
                     r"time        [\d.]+ s to ingest", r"rate        .+/s, [\d,]+ files/s",
                     r"every byte came back: diff -r found no difference"):
            self.assertRegex(out, re.compile(f"^{line}$", re.MULTILINE))
        # It says how to go on, with what is there.
        vault, key = re.search(r"export HOLDFAST_VAULT=(\S+) HOLDFAST_KEY=(\S+)", out).groups()
        listed = harness.run_command([harness.BINARY, "ls", "-0", "quickstart", "--vault", vault,
                                      "--key", key])
        self.assertEqual(54, listed.out.count(b"\0"), str(listed))
        work = re.search(r"^Remove it all: rm -r (\S+)$", out, re.MULTILINE).group(1)
        self.assertEqual(work, os.path.dirname(vault))
        self.assertEqual(sorted(os.listdir(source)), sorted(os.listdir(os.path.join(work, "restored"))))

    def test_bad_arguments(self):
        for args in ([self.path("not there")], ["/", "/"]):
            result = self.run_script(*args)
            self.assertEqual(1, result.code, str(result))
            self.assert_one_error_line(result, "quickstart: ")


if __name__ == "__main__":
    harness.main()
