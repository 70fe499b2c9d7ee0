#!/usr/bin/env python3
"""One input, one result, whichever engine computes it: every path of the CPU, and CUDA where it is."""

import json
import os
import random
import shutil
import subprocess

import harness
from harness import HoldfastTest, random_bytes, write_file

VOLATILE = ("version", "stored", "collection")


class EngineTest(HoldfastTest):

    def setUp(self):
        super().setUp()
        rng = random.Random(harness.SEED)
        self.source = self.new_dir("source")
        for i, size in enumerate([0, 1, 63, 64, 65, 4095, 100_000, 700_000, 5_000_000]):
            write_file(os.path.join(self.source, f"random{i}"), random_bytes(size, rng.random()))
        write_file(os.path.join(self.source, "zeros"), bytes(6_000_000))
        write_file(os.path.join(self.source, "ramp"), bytes(range(256)) * 20_000)
        for i in range(6):
            write_file(os.path.join(self.source, f"small{i}"), random_bytes(i * 3700, i))
        self.names = sorted(os.listdir(self.source))
        self.v = self.vault()

    def stats(self, collection):
        """What stat --json says of every object, but for times and version ids."""
        out = {}
        for name in self.names:
            result = self.v.run("stat", f"{collection}/{name}", "--json")
            lines = [json.loads(line) for line in result.out.splitlines()]
            for line in lines:
                for field in VOLATILE:
                    line.pop(field, None)
            out[name] = lines
        return out

    def ingest(self, collection, engine, kernels):
        env = {**os.environ, "HOLDFAST_KERNELS": kernels}
        return self.v.run("ingest", self.source + "/.", "--to", collection, "--engine", engine,
                          "--json", env=env, expect=None)

    def test_every_path_gives_the_same(self):
        first = self.ingest("portable", "cpu", "portable")
        self.assertEqual(0, first.code, str(first))
        want = self.stats("portable")
        self.assertGreater(sum(len(json.dumps(lines)) for lines in want.values()), 5_000)
        tried = []
        for engine, kernels in (("cpu", "avx2"), ("cpu", "avx512"), ("auto", ""), ("cuda", ""),
                                ("auto", "cuda")):
            name = engine + "-" + (kernels or "any")
            result = self.ingest(name, engine, kernels)
            if result.code == harness.USAGE and "no such instructions" in result.err.decode():
                continue
            self.assertEqual(0, result.code, str(result))
            self.assertEqual(0, result.summary["stored_bytes"], name)
            self.assertEqual(want, self.stats(name), name)
            tried.append(name)
        print("tried: portable,", ", ".join(tried))
        self.v.verify()

    def test_no_device_is_said_once(self):
        if shutil.which("nvidia-smi") and subprocess.run(["nvidia-smi"], capture_output=True,
                                                         check=False).returncode == 0:
            self.skipTest("there is a GPU")
        for engine, kernels, lines in (("cuda", "", 1), ("auto", "cuda", 1), ("auto", "", 0),
                                       ("cpu", "", 0)):
            result = self.ingest("c", engine, kernels)
            self.assertEqual(0, result.code, str(result))
            said = [l for l in result.err.decode().splitlines() if "CUDA" in l]
            self.assertEqual(lines, len(said), str(result))
            for line in said:
                self.assertIn("going on with the CPU", line)

    def test_a_wrong_path_is_refused(self):
        for engine, kernels in (("cpu", "cuda"), ("auto", "sse9")):
            result = self.ingest("c", engine, kernels)
            self.assertEqual(harness.USAGE, result.code, str(result))
            self.assert_one_error_line(result, "HOLDFAST_KERNELS=" + kernels)


if __name__ == "__main__":
    harness.main()
