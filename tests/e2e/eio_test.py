#!/usr/bin/env python3
"""A disk that gives errors: reads, writes and syncs that fail, by a library that is preloaded.

A sync that fails once is the last word on what was written before it: here that is gone, as the
kernel lets go of pages that it could not write. HOLDFAST_FAULTS_ROUNDS=N sets how many syncs and
writes fail, each in an ingest of its own (2; 60 in full, and 12 in a cluster).
"""

import collections
import fnmatch
import os
import random
import shutil
import signal
import subprocess
import time

import harness
from cluster import Cluster
from faults import Faults
from gc_rounds import quick_disk
from harness import FULL, KIND_CHUNK, CrashTest, HoldfastTest, write_file

ROUNDS = int(os.environ.get("HOLDFAST_FAULTS_ROUNDS") or 0)


# What fails, and of which files.
KINDS = [("sync", "*/segments/*.seg"), ("sync", "*/catalogue/*.log"), ("write", "*/segments/*.seg"),
         ("sync", "*"), ("write", "*/v*"), ("rename,allocate,mkdir,unlink,truncate", "*/v*")]


class FailingSyncTest(CrashTest):
    """Everything that was acknowledged is there after a restart, whatever else an error breaks."""

    def ingest_with(self, vault, faults, rule, log):
        faults.forget()
        faults.set(rule)
        with open(log, "wb") as out, open(log + ".err", "wb") as err:
            code = subprocess.call(
                vault.args("ingest", self.source, "--to", "c", "--json", "--quiet"),
                stdout=out, stderr=err, env=faults.env)
        faults.set()
        return code

    def mend(self, vault):
        """What the next command says of a broken catalogue is what helps. Whether it was needed."""
        result = vault.run("ls", "-0", "c", expect={harness.OK, harness.NOT_FOUND, harness.INTEGRITY})
        if result.code != harness.INTEGRITY:
            return False
        self.assert_one_error_line(result, "fsck --rebuild-catalogue")
        vault.fsck("--rebuild-catalogue")
        return True

    def calls_of_an_ingest(self, disk, faults):
        """How many there are of each of KINDS."""
        os.mkdir(os.path.join(disk, "whole"))
        vault = harness.Vault(self, os.path.join(disk, "whole"))
        self.assertEqual(0, self.ingest_with(vault, faults, "", self.path("log")))
        harness.remove_tree(os.path.join(disk, "whole"))
        return {(what, where): sum(call.what in what.split(",") and fnmatch.fnmatch(call.path, where)
                                   for call in faults.calls()) for what, where in KINDS}

    def test_embedded(self):
        rng = random.Random(f"{harness.SEED} {self.id()}")
        self.make_source(scale=0.05)
        rounds = ROUNDS or (60 if FULL else 2)
        disk = quick_disk(self)
        mended = failed = hit = 0
        faults = Faults(self)
        counts = self.calls_of_an_ingest(disk, faults)
        for i in range(rounds):
            home = os.path.join(disk, f"v{i}")
            os.mkdir(home)
            vault = harness.Vault(self, home, rng.choice([(), (), ("disk-a", "disk-b")]))
            what, where = KINDS[i % len(KINDS)]
            action = "lose" if what == "sync" else rng.choice(["5", "28"])
            rule = f"{what} {where} {rng.randrange(counts[what, where]) + 1} 1 {action}"
            log = self.path("log")
            with self.subTest(round=i, rule=rule):
                code = self.ingest_with(vault, faults, rule, log)
                with open(log + ".err", encoding="utf-8", errors="replace") as err:
                    said = err.read()
                self.assertIn(code, (0, harness.FAILED, harness.SOME_FAILED, harness.INTEGRITY), said)
                self.assertTrue(code == 0 or said.strip())
                failed += code != 0
                acknowledged = self.acknowledged(log)
                hit += bool(faults.hits())
                mended += self.mend(vault)
                self.check(vault, acknowledged, rng)
                self.finish(vault)
            harness.remove_tree(home)
        print(f"{hit} failures, {failed} ingests failed, {mended} catalogues rebuilt")
        self.assertGreater(hit, 0)

    def test_cluster(self):
        """A node whose sync fails does not count; a coordinator whose sync fails acknowledges no more."""
        if not FULL and not ROUNDS:
            self.skipTest("in full")
        rng = random.Random(f"{harness.SEED} {self.id()}")
        self.make_source(scale=0.05)
        of_coordinator, of_nodes = Faults(self, "coordinator"), Faults(self, "nodes")
        for i in range(ROUNDS or 12):
            kind = ("coordinator", "nodes")[(i + harness.SEED) % 2]
            of_coordinator.set()
            of_nodes.set()
            cluster = Cluster(
                self, os.path.join(quick_disk(self), "cluster"),
                env_of=lambda what: (of_coordinator if what == "coordinator" else of_nodes).env)
            faults, where = {"coordinator": (of_coordinator, "*/catalogue/*.log"),
                             "nodes": (of_nodes, "*/segments/*.seg")}[kind]
            rule = f"sync {where} {rng.randrange(1, 6)} 1 lose"
            with self.subTest(round=i, rule=rule):
                faults.set(rule)
                log = self.path("log")
                client = self.start_ingest(cluster, log)
                deadline = time.monotonic() + 60
                while client.poll() is None and time.monotonic() < deadline:
                    if faults.hits():  # It may wait for a coordinator that will not come back.
                        deadline = min(deadline, time.monotonic() + 5)
                    time.sleep(0.01)
                hits = faults.hits()
                self.assertTrue(hits)
                # What happens after the first failure has no part in it.
                faults.set()
                died = [d.what for d in [cluster.coordinator, *cluster.daemons] if not d.runs]
                cluster.stop()
                client.kill()
                code = client.wait()
                acknowledged = self.acknowledged(log)
                print(f"{kind}: {rule}: client {code}, ended by themselves: {died}, "
                      f"{len(acknowledged)} acknowledged")
                self.start_again(cluster)
                cluster.wait_until_well()
                self.check(cluster, acknowledged, rng)
                result = cluster.ingest(self.source)
                self.assertEqual(len(self.entries), len(result.json_of("object")))
                cluster.wait_until_well()
                cluster.fsck()
                cluster.verify()
                cluster.stop()

    def start_again(self, cluster):
        """A catalogue that does not open is rebuilt, as it says itself."""
        for node in cluster.daemons:
            node.start()
        try:
            cluster.coordinator.start()
        except AssertionError as error:
            self.assertIn("catalogue: damaged", str(error))
            config = cluster.coordinator.config
            cluster.run("coordinator", "rebuild", "--config", config, "--map",
                        os.path.join(cluster.node_dirs[0], "cluster-map"), vault=False)
            print("  its catalogue was rebuilt")
            cluster.coordinator.start()


FILES = 8 if FULL else 4


class FailingReadTest(HoldfastTest):
    """EIO where one record lies: named, and nothing but what it hit is affected."""

    def prepare(self, nodes=()):
        self.rng = random.Random(f"{harness.SEED} {self.id()}")
        self.source = self.new_dir("s")
        for i in range(FILES):
            write_file(os.path.join(self.source, f"f{i}"), self.rng.randbytes(200_000))
        self.v = harness.Vault(self, quick_disk(self), nodes, ["--chunk-size", "64KiB"])
        self.v.ingest(self.source)
        self.faults = Faults(self)
        self.bad = f"f{self.rng.randrange(FILES)}"
        (stat,) = self.v.run("stat", f"c/s/{self.bad}", "--json").json
        ids = {bytes.fromhex(chunk["id"]) for chunk in stat["chunks"]}
        # A block in its midst, so that its neighbours have no part in it.
        self.record = self.rng.choice([r for r in self.v.records(KIND_CHUNK)
                                       if r.id in ids and r.length > 12_000])
        begin = self.record.payload_offset + 4096
        self.rule = f"read {self.record.path} 1 0 5 {begin} {begin + 4096}"
        self.faults.set(self.rule)

    def try_it(self, *args, expect):
        return self.v.run(*args, env=self.faults.env, expect=expect)

    def drop(self, name):
        times = os.stat(self.source)
        os.unlink(os.path.join(self.source, name))
        os.utime(self.source, ns=(times.st_atime_ns, times.st_mtime_ns))

    def must_read(self, name):
        with open(os.path.join(self.source, name), "rb") as file:
            self.assertEqual(file.read(), self.try_it("cat", f"c/s/{name}", expect=harness.OK).out)

    def must_be_whole(self):
        self.faults.set()
        self.v.fsck()
        self.v.verify()
        self.v.restore(self.path("out"))
        self.assert_same_tree(self.source, self.path("out/s"))

    def test_one_copy(self):
        self.prepare()
        result = self.try_it("cat", f"c/s/{self.bad}", expect=harness.INTEGRITY)
        self.assert_one_error_line(result, f"s/{self.bad}", "I/O error")
        for i in range(FILES):
            if f"f{i}" != self.bad:
                self.must_read(f"f{i}")
        result = self.try_it("verify", expect=harness.INTEGRITY)
        self.assertIn(f"s/{self.bad}", result.err.decode())
        self.assertNotIn("s/f" + str((int(self.bad[1]) + 1) % FILES), result.err.decode())
        self.assertTrue(self.faults.hits())
        # It may have been the cable.
        self.must_be_whole()

    def test_two_copies(self):
        self.prepare(("disk-a", "disk-b"))
        for i in range(FILES):
            self.must_read(f"f{i}")
        result = self.try_it("verify", expect=harness.INTEGRITY)
        self.assertIn(f"s/{self.bad}", result.err.decode())
        self.assertNotIn("LOST", result.err.decode())
        self.must_read(self.bad)
        self.assertTrue(self.faults.hits())
        self.must_be_whole()

    def test_gc_leaves_the_segment(self):
        for nodes in ((), ("disk-a", "disk-b"))[:2 if FULL else 1]:
            with self.subTest(copies=len(nodes) or 1):
                self.source = None
                shutil.rmtree(self.path("s"), ignore_errors=True)
                shutil.rmtree(self.path("out"), ignore_errors=True)
                self.prepare(nodes)
                gone = self.rng.choice([f"f{i}" for i in range(FILES) if f"f{i}" != self.bad])
                self.v.run("rm", "--now", f"c/s/{gone}")
                self.drop(gone)
                result = self.try_it("gc", "--grace", "0", expect=harness.SOME_FAILED)
                self.assertTrue(self.faults.hits())
                self.assert_one_error_line(result, self.record.path, "stays")
                size = os.path.getsize(self.record.path)
                self.assertGreater(size, 100_000)
                for name in sorted(os.listdir(self.source)):
                    if name != self.bad or nodes:
                        self.must_read(name)
                self.faults.set()
                self.v.verify()
                self.v.run("gc", "--grace", "0")
                self.assertLess(os.path.getsize(self.record.path), size)
                self.must_be_whole()

    def test_of_a_catalogue_that_cannot_be_read(self):
        """Never a shorter listing; and nothing is collected on the strength of it."""
        self.prepare()
        listing = self.v.ls()
        self.v.run("rm", "--now", f"c/s/{self.bad}")
        self.drop(self.bad)
        listing.remove(f"s/{self.bad}".encode())
        verbs = {"ls": ["ls", "-0", "c"], "gc": ["gc", "--grace", "0"]}
        places = [f"{self.v.dir}/catalogue/*", f"{self.v.dir}/*/index/*", f"{self.v.dir}/*"]
        reads = {(verb, place): self.reads_of(args, place)
                 for verb, args in {**verbs, "gc": [*verbs["gc"], "--dry-run"]}.items()
                 for place in places}
        hits = collections.Counter()
        for i in range(40 if FULL else 4):
            verb, place = list(verbs)[i % 2], self.rng.choice(places)
            at = self.rng.randrange(1, reads[verb, place] + 1)
            rule = f"read {place} {at} {self.rng.choice([0, 1, 3])} 5"
            with self.subTest(rule=rule, verb=verb):
                self.faults.set(rule)
                self.faults.forget()
                result = self.try_it(*verbs[verb], expect=None)
                hits[verb] += bool(self.faults.hits())
                self.assertIn(result.code, (harness.OK, harness.FAILED, harness.SOME_FAILED,
                                            harness.INTEGRITY, harness.NO_VAULT), str(result))
                if result.code != harness.OK:
                    self.assertTrue(result.error_lines)
                elif verb == "ls":
                    self.assertEqual(listing,
                                     [n.rstrip(b"/") for n in result.out.split(b"\0")[:-1]])
                self.faults.set()
                self.assertEqual(listing, self.v.ls())
                self.v.verify()
        print(f"reads that failed: {dict(hits)}")
        for verb in verbs:
            self.assertGreater(hits[verb], 0, verb)
        self.v.run("gc", "--grace", "0")
        self.must_be_whole()

    def reads_of(self, args, place):
        """How many there are of files in that place, when nothing fails."""
        self.faults.set()
        self.faults.forget()
        self.try_it(*args, expect=harness.OK)
        count = sum(call.what == "read" and fnmatch.fnmatch(call.path, place)
                    for call in self.faults.calls())
        self.assertGreater(count, 0, place)
        return count


if __name__ == "__main__":
    harness.main()
