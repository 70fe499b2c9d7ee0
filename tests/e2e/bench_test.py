#!/usr/bin/env python3
"""`holdfast bench`: the profile of this machine, and of the way to the nodes of a cluster."""

import json
import os

import harness
from cluster import Cluster
from harness import BINARY, FAILED, NOT_FOUND, OK, HoldfastTest, run_command


class BenchTest(HoldfastTest):
    def bench(self, *args, expect=OK):
        result = run_command([BINARY, "bench", "--quick", *args])
        self.assertEqual(expect, result.code, result)
        return result

    def must_be_measured(self, what, value):
        """Every rate and time in it is a number above zero."""
        if isinstance(value, dict):
            for key, inner in value.items():
                self.must_be_measured(f"{what}.{key}", inner)
        elif isinstance(value, list):
            self.assertTrue(value, what)
            for i, inner in enumerate(value):
                self.must_be_measured(f"{what}[{i}]", inner)
        elif "per_second" in what or "seconds" in what:
            self.assertGreater(value, 0, what)

    def test_profile(self):
        disk, out = self.path("disk"), self.path("profile.json")
        os.mkdir(disk)
        printed = json.loads(self.bench("--dir", disk, "--out", out, "--json").out)
        with open(out, encoding="utf-8") as file:
            profile = json.load(file)
        self.assertEqual(printed, profile)
        self.assertEqual([], os.listdir(disk))  # It leaves nothing.
        self.assertEqual(("machine-profile", 1, True),
                         (profile["type"], profile["version"], profile["quick"]))
        self.must_be_measured("profile", profile)
        self.assertEqual(os.cpu_count(), profile["machine"]["cores"])
        self.assertEqual(disk, profile["disk"]["directory"])
        self.assertNotIn("network", profile)
        kernels = {(k["path"], k["algorithm"]) for k in profile["cpu"]["kernels"]}
        self.assertLessEqual({("portable", a) for a in ("sha256", "sha1", "md5", "poly1305", "cut")},
                             kernels)

    def test_for_people(self):
        disk = self.path("disk")
        os.mkdir(disk)
        text = self.bench("--dir", disk).out.decode()
        for word in ("kernels, one core", "engine ", "disk of ", "catalogue there", "rows listed"):
            self.assertIn(word, text)

    def test_a_directory_that_is_not_there(self):
        result = self.bench("--dir", self.path("none"), expect=NOT_FOUND)
        self.assertEqual(1, result.err.count(b"\n"), result)
        self.assertIn(b"none", result.err)
        self.assertEqual(b"", result.out)
        result = self.bench("--out", self.path("none/profile.json"), expect=FAILED)
        self.assertEqual(1, result.err.count(b"\n"), result)
        self.assertIn(b"none", result.err)
        self.assertEqual(b"", result.out, "before anything is measured")

    def test_stats_of_jobs(self):
        source = self.path("source")
        os.mkdir(source)
        for i in range(40):
            with open(os.path.join(source, str(i)), "wb") as file:
                file.write(os.urandom(400_000))
        vault = self.vault(nodes=("disk-0", "disk-1"))
        jobs = ((["ingest", source, "--to", "c"], {"read", "cut and digest", "seal and put"}),
                (["verify"], {"open", "cut and digest"}),
                (["restore", "c", "--to", self.path("out")], {"open", "compare and hand on"}))
        for job, stages in jobs:
            stats = vault.run(*job, "--stats", "--json").json_of("stats")[0]
            for worker in stats["workers"]:
                self.assertLessEqual(sum(s["seconds"] for s in worker), stats["seconds"] + 0.2, stats)
                for stage in worker:
                    self.assertGreaterEqual(stage["cpu_seconds"], 0, stats)
                    self.assertLessEqual(stage["cpu_seconds"], stage["seconds"] + 0.1, stats)
            self.assertLessEqual(stages, {s["stage"] for w in stats["workers"] for s in w})
            self.assertIn("hf-node", stats["other_threads"])
            self.assertGreater(stats["cpu_seconds"], 0)
            floor = stats["floor"]
            self.must_be_measured("floor", floor["parts"])
            self.assertEqual(floor["seconds"], max(floor["processors_seconds"], floor["disk_seconds"]))
            self.assertGreater(floor["disk_seconds"], 0)
            parts = {part["part"]: part["bytes"] for part in floor["parts"]}
            if job[0] == "ingest":  # Two copies.
                self.assertEqual(parts["write the log"], 2 * parts["seal"])
            if job[0] == "restore":
                self.assertEqual(parts["write the files"], 40 * 400_000)
        # What was measured with is gone.
        self.assertEqual([], [name for _, names, _ in os.walk(self.path("")) for name in names
                              if "holdfast-bench" in name])
        # What is known is cut, and the rest digested.
        with open(os.path.join(source, "one more"), "wb") as file:
            file.write(os.urandom(70_000))
        floor = vault.run("ingest", source, "--to", "c", "--stats", "--json").json_of("stats")[0]["floor"]
        parts = {part["part"]: part["bytes"] for part in floor["parts"]}
        self.assertEqual((parts["cut"], parts["cut and digest"]), (40 * 400_000, 70_000))
        text = vault.run("verify", "--stats").out.decode()
        for word in ("stages of each worker", "other threads", "at best here: "):
            self.assertIn(word, text)

    def test_cluster(self):
        disk = self.path("disk")
        os.mkdir(disk)
        cluster = Cluster(self, self.path("cluster"), nodes=2, replicas=2)
        report = cluster.run("bench", "--quick", "--dir", disk, "--json").json_of("machine-profile")
        network = report[-1]["network"]
        self.assertEqual([0, 1], [node["node"] for node in network])
        self.must_be_measured("network", network)


if __name__ == "__main__":
    harness.main()
