#!/usr/bin/env python3
"""kill -9 in a cluster: nodes, the coordinator, the client, while it ingests and restores.

Five nodes, three copies, two of them before anything is acknowledged. After the last kill, and with
no manual step: everything acknowledged is listed and reads back exact, and `status` reports
missing=0 within 120 s. HOLDFAST_KILLS=N sets how many rounds (1; 50 in full, each on a twentieth of
corpus M or S).
"""

import os
import random
import signal
import subprocess
import threading
import time

import harness
from cluster import Cluster
from harness import FULL, MIB, CrashTest

ROUNDS = int(os.environ.get("HOLDFAST_KILLS") or (50 if FULL else 1))
OUT_AFTER = 30 if FULL else 8      # Seconds until a node that is away is taken out.
LONGEST_AWAY = 30 if FULL else 3   # Until the harness starts one again.
STOPPED = 60 if FULL else 8


class Restores(threading.Thread):
    """Restores one collection again and again, and compares it."""

    def __init__(self, test, cluster, source):
        super().__init__()
        self.test, self.cluster, self.source = test, cluster, source
        self.over = threading.Event()
        self.done, self.wrong = 0, None

    def run(self):
        while not self.over.is_set():
            to = self.test.path(f"live{self.done}")
            # While the coordinator is away there may be none; what there is must be right.
            result = self.cluster.run("restore", "before", "--to", to, "--quiet", expect=None)
            if result.code == 0:
                diff = subprocess.run(["diff", "-rq", self.source, os.path.join(to, "source")],
                                      capture_output=True, check=False)
                if diff.returncode != 0:
                    self.wrong = diff.stdout
                    return
            harness.remove_tree(to)
            self.done += 1

    def finish(self):
        self.over.set()
        self.join()
        self.test.assertIsNone(self.wrong)


class ClusterKillTest(CrashTest):

    def make_corpus(self, rng):
        """At self.source, known by self.entries."""
        self.source = self.path("source")
        if FULL:
            subprocess.run([harness.CORPUS_BINARY, "--preset", rng.choice("MS"), "--scale", "0.05",
                            "--seed", str(rng.randrange(1 << 30)), "--out", self.source],
                           check=True, capture_output=True)
            self.entries, _, _ = harness.scan_tree(self.source)
        else:
            self.make_source(scale=0.15)
        self.before = self.path("before/source")
        harness.make_media_tree(self.before, harness.SEED + 2, files=60, mean=100_000)

    def grow_source(self, rng):
        for i in range(300):
            with open(os.path.join(self.source, f"more-{i}"), "wb") as file:
                file.write(rng.randbytes(rng.randrange(60_000)))
        self.entries, _, _ = harness.scan_tree(self.source)

    def kill_something(self, rng, cluster, client):
        """One thing, at once; what is to be done later comes back."""
        kind = rng.choice(["node", "node", "node", "stop", "coordinator", "client"])
        print(f"  {kind}", end=" ", flush=True)
        if kind == "client":
            client.kill()
            return lambda: None
        if kind == "coordinator":
            cluster.coordinator.kill()
            time.sleep(rng.uniform(0, 3))
            cluster.coordinator.start()
            return lambda: None
        node = rng.choice([d for d in cluster.daemons if d.runs])
        if kind == "stop":
            node.process.send_signal(signal.SIGSTOP)
            time.sleep(STOPPED)
            node.process.send_signal(signal.SIGCONT)
            return lambda: None
        node.kill()
        if self.lost < 2 and rng.random() < 0.25:
            self.lost += 1
            print("(for good)", end=" ", flush=True)
            return lambda: None
        away = rng.uniform(0, LONGEST_AWAY)
        return lambda: (time.sleep(away), node.start())

    def wait_until_whole(self, cluster, seconds=120):
        deadline = time.monotonic() + seconds
        while True:
            result = cluster.run("status", "--json", expect=None)
            repair = result.json[-1].get("cluster") if result.out else None
            if repair and repair["known"] and repair["missing"] == 0:
                if all(n["answers"] or n["state"].startswith("out") for n in repair["nodes"]):
                    return
            self.assertLess(time.monotonic(), deadline, f"not whole in {seconds} s: {result}")
            time.sleep(0.5)

    def ingest_to_the_end(self, cluster, client, log, rng):
        """Waits for the client; runs it again when it was killed."""
        names = []
        while True:
            code = client.wait(timeout=600)
            names += self.acknowledged(log)
            if code == 0:
                return names
            with open(log + ".err", encoding="utf-8", errors="replace") as err:
                self.assertIn(code, (-signal.SIGKILL, harness.FAILED, harness.SOME_FAILED),
                              err.read())
            client = self.start_ingest(cluster, log)

    def one_round(self, seed):
        rng = random.Random(seed)
        self.lost = 0
        self.make_corpus(rng)
        cluster = Cluster(self, self.path("cluster"), nodes=5, out_after=OUT_AFTER)
        cluster.ingest(self.before, to="before")
        restores = Restores(self, cluster, self.before)
        restores.start()
        log = self.path("log")
        client = self.start_ingest(cluster, log)
        time.sleep(rng.uniform(0, 2))
        later = self.kill_something(rng, cluster, client)
        later()
        names = self.ingest_to_the_end(cluster, client, log, rng)
        self.wait_until_whole(cluster)
        # A second one, once there are three copies of all again.
        self.grow_source(rng)
        client = self.start_ingest(cluster, log)
        time.sleep(rng.uniform(0, 1))
        later = self.kill_something(rng, cluster, client)
        later()
        names += self.ingest_to_the_end(cluster, client, log, rng)
        self.wait_until_whole(cluster)
        restores.finish()
        print(f"  {restores.done} restores meanwhile, {len(names)} acknowledged")
        self.check(cluster, names, rng)
        self.assertEqual(len(self.entries), len(set(names)))
        cluster.verify()
        for daemon in cluster.daemons:
            if daemon.runs:
                self.assertLess(daemon.peak_rss_bytes(), 512 * MIB)
        self.assertLess(cluster.coordinator.peak_rss_bytes(), 1024 * MIB)
        cluster.stop()
        for name in ("cluster", "source", "before", "log", "log.err"):
            path = self.path(name)
            harness.remove_tree(path) if os.path.isdir(path) else os.unlink(path)

    def test_killed_at_random_points(self):
        for i in range(ROUNDS):
            seed = harness.SEED + i
            print(f"round {i}, seed {seed}:", end="", flush=True)
            with self.subTest(round=i, seed=seed):
                self.one_round(seed)


if __name__ == "__main__":
    harness.main()
