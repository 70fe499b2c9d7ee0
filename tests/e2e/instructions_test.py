#!/usr/bin/env python3
"""What fixed small jobs cost in instructions, which no neighbour on the machine changes (callgrind).

The counts are held to those in instructions.json, which were counted on Debian 12, x86-64 with AVX2:
the path is forced, as valgrind knows no AVX-512. A job that takes more by a twentieth fails, and one
that takes less as well: HOLDFAST_UPDATE_INSTRUCTIONS=1 writes the file anew, to be committed with the
change that made the difference. Long form only.
"""

import json
import os
import re
import shutil
import unittest

import harness
from harness import BINARY, FULL, HoldfastTest, run_command

COUNTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "instructions.json")
ALLOWED = 0.05  # One run differs from the next by up to 0.014.
CORPORA = {"media": ("--files", "200", "--bytes", "20000000"),
           "small": ("--preset", "S", "--files", "2000", "--bytes", "20000000")}
JOBS = ("ingest", "again", "verify", "restore")


@unittest.skipUnless(FULL, "long form only")
class InstructionsTest(HoldfastTest):
    def setUp(self):
        super().setUp()
        self.assertTrue(shutil.which("valgrind"), "valgrind is not installed: scripts/setup.sh")
        self.assertTrue(harness.CORPUS_BINARY, "no holdfast-corpus binary")

    def count(self, vault, *args):
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", BINARY, "--vault",
                   vault.dir, "--key", vault.key, "--quiet", *args, "--threads", "1"]
        result = run_command(command, env=dict(os.environ, HOLDFAST_KERNELS="avx2"), timeout=600)
        self.assertEqual(0, result.code, result)
        return int(re.search(rb"Collected : (\d+)", result.err).group(1))

    def counts_of(self, corpus):
        source = self.path(corpus)
        run_command([harness.CORPUS_BINARY, "--out", source, *CORPORA[corpus]])
        vault = self.vault(corpus + "-vault")
        ingest = ("ingest", source, "--to", "c")
        commands = (ingest, ingest, ("verify",), ("restore", "c", "--to", self.path(corpus + "-out")))
        return {job: self.count(vault, *command) for job, command in zip(JOBS, commands)}

    def test_as_many_as_before(self):
        counts = {corpus: self.counts_of(corpus) for corpus in CORPORA}
        if os.environ.get("HOLDFAST_UPDATE_INSTRUCTIONS"):
            with open(COUNTS, "w", encoding="ascii") as file:
                json.dump(counts, file, indent=1)
                file.write("\n")
        with open(COUNTS, encoding="ascii") as file:
            before = json.load(file)
        for corpus in CORPORA:
            for job in JOBS:
                ratio = counts[corpus][job] / before[corpus][job]
                print(f"{corpus} {job}: {counts[corpus][job]:,} instructions, {ratio:.3f} of before")
                with self.subTest(corpus=corpus, job=job):
                    self.assertLess(abs(ratio - 1), ALLOWED)


if __name__ == "__main__":
    harness.main()
