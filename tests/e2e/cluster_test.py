#!/usr/bin/env python3
"""A cluster of real processes: daemons, clients and principals over CURVE on loopback."""

import json
import os
import random
import signal
import subprocess
import threading
import time
import unittest

import harness
from cluster import Cluster, free_ports
from harness import (ACCESS, BINARY, CORPUS_BINARY, FAILED, FULL, INTEGRITY, MIB, OK, SOME_FAILED, USAGE,
                     write_file)


class ClusterTest(harness.HoldfastTest):

    def cluster(self, name="cluster", **kwargs):
        return Cluster(self, self.path(name), **kwargs)

    def make_source(self, files=400, big=4):
        """Small files, some large ones, and duplicates among both."""
        rng = random.Random(harness.SEED)
        source = self.path("source")
        os.makedirs(source)
        for i in range(files):
            directory = os.path.join(source, f"d{i % 7}")
            os.makedirs(directory, exist_ok=True)
            seed = rng.randrange(files // 2)
            with open(os.path.join(directory, f"f{i}"), "wb") as file:
                file.write(random.Random(seed).randbytes(1 + seed * 97))
        for i in range(big):
            with open(os.path.join(source, f"big{i}"), "wb") as file:
                file.write(random.Random(i % 3).randbytes(6 * MIB))
        return source

    def restored_is_source(self, cluster, source, to):
        cluster.restore(self.path(to))
        subprocess.run(["diff", "-r", source, os.path.join(self.path(to), "source")], check=True)

    def test_round_trip(self):
        cluster = self.cluster()
        source = self.make_source()
        first = cluster.ingest(source)
        self.assertEqual(0, first.summary["errors"])
        self.restored_is_source(cluster, source, "out")
        cluster.verify()
        stored = cluster.chunk_bytes()
        again = cluster.ingest(source)
        self.assertEqual({"unchanged"}, {o["state"] for o in again.json_of("object")})
        self.assertEqual(stored, cluster.chunk_bytes())
        self.assertEqual(cluster.ls(), sorted(cluster.ls()))
        cluster.fsck()
        for daemon in [*cluster.daemons, cluster.coordinator]:
            self.assertLess(daemon.peak_rss_bytes(), 512 * MIB)
            self.assertEqual(OK, daemon.kill(signal.SIGTERM), daemon.said())

    @unittest.skipUnless(FULL, "M and S at full size: 20 GB on the disk")
    def test_full_size(self):
        """Five nodes, three copies; a node and the coordinator within their memory."""
        for preset in "MS":
            source = os.path.join(self.new_dir(preset), "source")
            subprocess.run([CORPUS_BINARY, "--preset", preset, "--out", source], check=True,
                           capture_output=True)
            cluster = self.cluster("cluster-" + preset, nodes=5)
            ingest = cluster.ingest(source, timeout=1200)
            self.assertEqual(0, ingest.summary["errors"])
            cluster.wait_until_well()
            to = self.path("out")
            cluster.restore(to, timeout=1200)
            subprocess.run(["diff", "-r", source, os.path.join(to, "source")], check=True)
            cluster.verify(timeout=1200)
            nodes = [d.peak_rss_bytes() // MIB for d in cluster.daemons]
            coordinator = cluster.coordinator.peak_rss_bytes() // MIB
            print(f"{preset}: {ingest.seconds:.1f} s; client {ingest.max_rss_bytes // MIB} MiB, nodes "
                  f"{nodes}, coordinator {coordinator}")
            self.assertLess(max(nodes), 512)
            self.assertLess(coordinator, 1024)
            self.assertLess(ingest.max_rss_bytes, 512 * MIB)
            cluster.stop()
            for path in (cluster.base, source, to):
                harness.remove_tree(path)

    def test_every_process_may_be_killed_and_started_again(self):
        cluster = self.cluster()
        source = self.make_source()
        cluster.ingest(source)
        listing = cluster.ls()
        for daemon in [cluster.coordinator, *cluster.daemons]:
            daemon.kill()
            daemon.start()
        cluster.wait_until_well()
        self.assertEqual(listing, cluster.ls())
        self.restored_is_source(cluster, source, "out")
        self.assertEqual({"unchanged"},
                         {o["state"] for o in cluster.ingest(source).json_of("object")})

    def test_a_long_object(self):
        """Its list of chunks lies on the nodes, under a key that clients of a cluster have not."""
        cluster = self.cluster()
        long = self.path("long")
        with open(long, "wb") as file:
            file.seek(2_300 * MIB)
            file.write(b"the end" * 1000)
        cluster.ingest(long)
        cluster.wait_until_well()
        cluster.verify()
        parts = cluster.records(harness.KIND_PART)
        self.assertEqual(2 * 3, len(parts))
        harness.flip(parts[0].path, parts[0].payload_offset + parts[0].length // 2)
        result = cluster.verify(expect=INTEGRITY)
        self.assertEqual([("long", False)],
                         [(d["name"], d["lost"]) for d in result.json_of("damage")])
        self.assertEqual(b"the end" * 1000, cluster.cat("long", "--range", f"{2_300 * MIB}-"))

    def test_a_node_dies_during_ingest(self):
        cluster = self.cluster()
        source = self.make_source(files=3000, big=10)
        threading.Timer(0.3, cluster.daemons[1].kill).start()
        result = cluster.ingest(source, timeout=120)
        self.assertEqual(0, result.summary["errors"])
        # With W = 2 copies of everything on the others, all of it is there.
        self.restored_is_source(cluster, source, "out")
        status = cluster.run("status", "--json", expect=INTEGRITY).json[-1]
        self.assertEqual([True, False, True], [node["ok"] for node in status["nodes"]])

    @unittest.skipUnless(FULL, "waits for five minutes")
    def test_too_few_nodes_store_nothing(self):
        cluster = self.cluster()
        source = self.make_source(files=20, big=1)
        for node in cluster.daemons[:2]:
            node.kill()
        result = cluster.run("ingest", source, "--to", "c", "--quiet", expect={FAILED, SOME_FAILED},
                             timeout=480)
        self.assertRegex(result.err, rb"node/[01]")
        for node in cluster.daemons[:2]:
            node.start()
        cluster.wait_until_well()
        cluster.ingest(source)
        self.restored_is_source(cluster, source, "out")

    def test_principals(self):
        cluster = self.cluster(nodes=2, replicas=2)
        source = self.make_source(files=10, big=1)
        cluster.ingest(source)

        def principal(roles):
            path = self.path(roles)
            cluster.run("key", "new-principal", "--roles", roles, "--name", roles, "--out", path)
            return path

        ingest, reader = principal("ingest"), principal("ingest,reader")
        operator, only_reader = principal("operator"), principal("reader")
        self.assertNotIn("k_dedup", read(operator))
        for path in (ingest, reader, operator, only_reader, cluster.key):
            self.assertNotIn("catalogue_key", read(path))
            self.assertEqual(path == cluster.key, "root_private_key" in read(path))
            self.assertEqual(path in (ingest, reader, cluster.key), "signing" in read(path))
        cluster.ingest(source, to="more", key=ingest)
        self.assertEqual(cluster.ls("more", key=ingest), cluster.ls("more"))
        cluster.run("cat", "c/source/big0", key=ingest, expect=ACCESS)
        for path in (reader, only_reader):
            self.assertEqual(cluster.cat("source/big0", key=path), cluster.cat("source/big0"))
        cluster.ingest(source, to="more", key=reader)
        cluster.run("verify", "more", key=only_reader)
        result = cluster.run("ingest", source, "--to", "c", key=only_reader, expect=ACCESS)
        self.assertEqual(1, len(result.error_lines), result)
        cluster.run("status", key=operator)
        for verb in (["ls", "c"], ["cat", "c/source/big0"], ["ingest", source, "--to", "c"]):
            result = cluster.run(*verb, key=operator, expect=ACCESS)
            self.assertEqual(1, len(result.error_lines), result)
        cluster.run("key", "new-principal", "--roles", "reader", "--name", "x", "--out",
                    self.path("x"), key=operator, expect=ACCESS)
        self.assertFalse(os.path.exists(self.path("x")))

        cluster.run("key", "revoke", "ingest,reader")
        result = cluster.run("cat", "c/source/big0", key=reader, expect=ACCESS)
        self.assertEqual(1, len(result.error_lines), result)
        self.assertIn(b"revoked", result.err)
        listed = cluster.run("key", "list", "--json").json_of("principal")
        self.assertEqual([True], [p["revoked"] for p in listed if p["name"] == "ingest,reader"])
        # What was decided stands after a restart, at the coordinator and at the nodes.
        for daemon in [cluster.coordinator, *cluster.daemons]:
            daemon.kill()
            daemon.start()
        cluster.wait_until_well()
        cluster.run("cat", "c/source/big0", key=reader, expect=ACCESS)
        cluster.ingest(source, to="more", key=ingest)

    def test_the_coordinators_disk_is_lost(self):
        cluster = self.cluster()
        source = self.make_source(files=200, big=1)
        write_file(os.path.join(source, "a name that tells"), b"content that tells")
        cluster.ingest(source)
        backup = self.path("backup")
        cluster.run("backup-catalogue", "--to", backup)
        with open(backup, "rb") as f:
            sealed = f.read()
        # Long ones: three bytes are in any megabyte of noise now and then.
        for secret in (b"a name that tells", b"content that tells", b"source"):
            self.assertFalse(secret in sealed, f"{secret} stands in the backup")
        cluster.run("backup-catalogue", "--to", backup, expect=USAGE)
        cluster.ingest(source, to="since")
        listing = cluster.ls(), cluster.ls("since")
        cluster.coordinator.kill()
        home = os.path.join(cluster.base, "coordinator")
        commits = []
        for extra in ([], ["--backup", backup]):
            harness.remove_tree(os.path.join(home, "catalogue"))
            result = cluster.run("coordinator", "rebuild", "--config", cluster.coordinator.config,
                                 "--map", os.path.join(cluster.node_dirs[1], "cluster-map"),
                                 "--json", *extra)
            rebuilt = result.json_of("rebuild")[-1]
            self.assertEqual([], rebuilt["missing_commits"])
            commits.append(rebuilt["commits"])
        # What is in the backup need not be read again; what came since must be.
        self.assertLess(0, commits[1])
        self.assertLess(commits[1], commits[0])
        cluster.coordinator.start()
        cluster.wait_until_well()
        self.assertEqual(listing, (cluster.ls(), cluster.ls("since")))
        self.restored_is_source(cluster, source, "out")
        cluster.ingest(source, to="later")
        # Yesterday's image of its machine: refused.
        saved = self.path("image")
        cluster.coordinator.kill(signal.SIGTERM)
        harness.copy_tree(os.path.join(home, "catalogue"), saved)
        cluster.coordinator.start()
        cluster.ingest(source, to="today")
        cluster.coordinator.kill(signal.SIGTERM)
        harness.remove_tree(os.path.join(home, "catalogue"))
        harness.copy_tree(saved, os.path.join(home, "catalogue"))
        result = cluster.run("coordinator", "serve", "--config", cluster.coordinator.config,
                             expect=INTEGRITY)
        self.assertIn(b"catalogue is behind the nodes", result.err)

    def test_nodes_come_and_go(self):
        cluster = self.cluster(nodes=4)
        source = self.make_source(files=300, big=2)
        cluster.ingest(source)
        cluster.join(4)
        self.wait_until_settled(cluster)
        cluster.run("node", "remove", "0", expect=FAILED)
        cluster.run("node", "drain", "0")
        cluster.ingest(source, to="meanwhile")
        self.wait_until_settled(cluster)
        cluster.daemons[0].kill()
        cluster.run("node", "remove", "0")
        # Its disk is lost.
        cluster.daemons[1].kill()
        cluster.run("node", "replace", "1", "4", "--lost")
        self.wait_until_settled(cluster)
        self.restored_is_source(cluster, source, "out")
        cluster.verify()
        for args, expect in ((["drain", "9"], harness.NOT_FOUND), (["drain", "2"], FAILED),
                             (["replace", "2", "0"], harness.NOT_FOUND)):
            result = cluster.run("node", *args, expect=expect)
            self.assertEqual(1, len(result.error_lines), result)

    def wait_until_settled(self, cluster, seconds=120):
        deadline = time.monotonic() + seconds
        while True:
            result = cluster.run("status", "--json", expect=None)
            repair = result.json[-1].get("cluster", {}) if result.out else {}
            if repair.get("known") and repair["missing"] + repair["migrating_groups"] == 0:
                return
            self.assertLess(time.monotonic(), deadline, result)
            time.sleep(0.3)

    def test_strangers(self):
        cluster = self.cluster(nodes=1, replicas=1)
        other = self.cluster("other", nodes=1, replicas=1)
        # A key of another cluster: the coordinator there is not who it should be.
        result = cluster.run("status", key=other.key, expect=FAILED)
        self.assertEqual(1, len(result.error_lines), result)
        self.assertIn(b"no coordinator answers", result.err)
        # An embedded vault's key.
        vault = self.vault("embedded")
        result = cluster.run("status", key=vault.key, expect=ACCESS)
        self.assertIn(b"not for a cluster", result.err)
        result = vault.run("status", key=cluster.key, expect=ACCESS)
        self.assertEqual(1, len(result.error_lines), result)

    def test_nodes_hold_no_key_and_no_plaintext(self):
        cluster = self.cluster(nodes=2, replicas=2)
        text = b"the plaintext that nobody who runs a node may see, 0123456789abcdef"
        name = "a-name-that-nodes-never-learn"
        source = self.path("source")
        os.makedirs(source)
        with open(os.path.join(source, name), "wb") as file:
            file.write(text * 1000)
        cluster.ingest(source)
        keys = json.loads(read(cluster.key))["keys"]
        secrets = [keys[k].encode() for k in ("k_dedup", "domain_private_key", "signing_private_key",
                                              "root_private_key", "curve_secret_key")]
        import base64
        needles = [text[:24], name.encode(), *secrets, *map(base64.b64decode, secrets)]
        for i, daemon in enumerate(cluster.daemons):
            for top, _, names in os.walk(os.path.join(cluster.base, f"node-{i}")):
                for file_name in names:
                    with open(os.path.join(top, file_name), "rb") as file:
                        self.none_of(needles, file.read(), file_name)
            # (A sanitizer's own memory is larger than what it watches, and than any machine's.)
            for data in () if os.environ.get("HOLDFAST_SANITIZE") else memory_of(daemon.process.pid):
                self.none_of(needles, data, "memory")

    def none_of(self, needles, data, where):
        for needle in needles:
            self.assertNotIn(needle, data, where)

    def test_bad_input(self):
        cluster = self.cluster(nodes=1, replicas=1)
        for args, expect, words in (
                (["cluster", "join", self.path("n"), "--listen", "127.0.0.1:1"], USAGE, b"tcp://"),
                (["cluster", "join", self.path("n"), "--listen", "tcp://127.0.0.1:70000"], USAGE,
                 b"70000"),
                (["cluster", "join", self.path("n"), "--listen", "tcp://127.0.0.1:1", "--place",
                  "x"], USAGE, b"SITE/RACK/HOST"),
                (["key", "new-principal", "--roles", "king", "--name", "k", "--out",
                  self.path("k")], USAGE, b"king"),
                (["key", "revoke", "nobody"], harness.NOT_FOUND, b"nobody"),
        ):
            result = cluster.run(*args, expect=expect)
            self.assertEqual(1, len(result.error_lines), result)
            self.assertIn(words, result.err)
        config = self.path("bad.toml")
        good = read(cluster.daemons[0].config)
        for text, words in (("dir = 1", b"dir"), ("x =", b"line 1"), (good + "nonsense = 3", b"nonsense")):
            with open(config, "w", encoding="utf-8") as file:
                file.write(text)
            result = cluster.run("node", "serve", "--config", config, expect=USAGE)
            self.assertEqual(1, len(result.error_lines), result)
            self.assertIn(words, result.err)
        cluster.run("node", "serve", "--config", self.path("absent"), expect=harness.NOT_FOUND)
        # Two daemons on one port.
        result = cluster.run("coordinator", "serve", "--config", cluster.coordinator.config,
                             expect={FAILED, harness.BUSY})
        self.assertEqual(1, len(result.error_lines), result)

    def test_dev_cluster(self):
        port = free_ports(20)
        script = os.path.join(harness.ROOT, "scripts", "dev-cluster.sh")
        env = {**os.environ, "HOLDFAST_BINARY": BINARY, "HOLDFAST_PORT": str(port)}
        home = self.path("dev")
        for _ in range(2):  # The second run starts the same one again.
            child = subprocess.Popen([script, "2", home], stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, env=env)
            self.addCleanup(child.stdout.close)
            for line in child.stdout:
                if b"holdfast status" in line:
                    break
            deadline = time.monotonic() + 30
            args = [BINARY, "--vault", f"tcp://127.0.0.1:{port}", "--key", f"{home}/key", "status"]
            while subprocess.run(args, capture_output=True, check=False).returncode != 0:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.2)
            child.terminate()
            child.communicate(timeout=60)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def memory_of(pid):
    """What a process has in memory of its own, region by region."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps, \
            open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            where, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            begin, end = (int(x, 16) for x in where.split("-"))
            try:
                memory.seek(begin)
                yield memory.read(end - begin)
            except OSError:
                continue


if __name__ == "__main__":
    harness.main()
