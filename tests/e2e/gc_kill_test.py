#!/usr/bin/env python3
"""kill -9 in each step of garbage collection, of a vault in a directory and of a cluster.

After each kill: fsck is clean, what is live reads back exact, the next gc completes, and nothing
but what is live is left in the log. HOLDFAST_KILLS=N sets how many rounds of each (1 and 1; 50, 30
and 40 in full).
"""

import contextlib
import json
import os
import pty
import random
import signal
import subprocess
import threading
import time

import harness
from cluster import Cluster
from faults import CHANGES, Faults
from gc_rounds import ALL_GOES, PHASES, GcRounds, quick_disk
from harness import FULL

KILLS = int(os.environ.get("HOLDFAST_KILLS") or 0)


class EmbeddedGcKillTest(GcRounds):

    def kill_in_each_step(self, nodes, kills):
        vault = harness.Vault(self, quick_disk(self), nodes, ["--chunk-size", "64KiB"])
        self.begin(vault, random.Random(f"{harness.SEED} {self.id()}"))
        phases = PHASES * (kills // len(PHASES) + 1)
        if kills < len(PHASES):
            self.rng.shuffle(phases)
        self.rounds(phases[:kills])
        self.say()
        # 43 and 26 in full, and of the cluster 35: more than a hundred.
        self.must_have_hit(self.seen, kills, PHASES)

    def test_killed(self):
        disks = [(), ("disk-a", "disk-b")]
        if not FULL:
            return self.kill_in_each_step(random.Random(harness.SEED).choice(disks), KILLS or 1)
        for nodes, kills in zip(disks, (50, 30)):
            with self.subTest(disks=len(nodes) or 1):
                self.kill_in_each_step(nodes, KILLS or kills)


SHOWN = {"purging": "purge", "marking": "mark", "looking": "survey", "sweeping": "sweep",
         "compacting": "compact"}


class Run:
    """`gc` on a terminal, which shows the step that it is in."""

    def __init__(self, vault, log):
        self.shown, self.log = "", log
        self.master, slave = pty.openpty()
        with open(log, "wb") as out:
            self.process = subprocess.Popen(vault.args("gc", *ALL_GOES), stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=slave)
        os.close(slave)
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self):
        with contextlib.suppress(OSError):  # EIO, when nobody has it open any more.
            while data := os.read(self.master, 4096):
                self.shown += data.decode("utf-8", "replace")
        os.close(self.master)

    def step(self, after):
        """What it has shown last, beyond so many characters; "" while there is nothing."""
        lines = [line for line in self.shown[after:].replace("\r", "\n").split("\n") if line.strip()]
        word = lines[-1].replace("\x1b[K", "").split()[0] if lines else ""
        return "asking" if word == "asking" else SHOWN.get(word, "")

    def wait(self, seconds):
        self.process.wait(timeout=seconds)
        self.thread.join()
        with open(self.log, "rb") as out:
            return self.process.returncode, self.shown + out.read().decode()


AIMS = ["census", "purge", "begin", "mark", "survey", "sweep", "compact", "by time"]


class ClusterGcKillTest(GcRounds):
    """Beside an ingest. To see in which step a run is, it is made to wait: nodes get SIGSTOP."""

    def test_killed(self):
        rounds = KILLS or (40 if FULL else 1)
        self.of_coordinator, self.of_nodes = Faults(self, "coordinator"), Faults(self, "nodes")
        self.cluster = Cluster(
            self, os.path.join(quick_disk(self), "cluster"),
            env_of=lambda what: (self.of_coordinator if what == "coordinator" else self.of_nodes).env)
        self.begin(self.cluster, random.Random(f"{harness.SEED} {self.id()}"))
        aims = AIMS * (rounds // len(AIMS) + 1)
        if rounds < len(AIMS):
            self.rng.shuffle(aims)
        self.left = 0  # Runs that found a node away after all.
        killed = {"node": 0, "coordinator": 0, "both": 0}
        for i in range(rounds):
            whom = list(killed)[(i + i // len(AIMS)) % 3]
            killed[whom] += 1
            with self.subTest(round=i, aim=aims[i], kill=whom):
                # One that was over first is tried again.
                any(self.one_round(aims[i], whom) for _ in range(3))
        # A session that a kill left open holds what it has stored, for a quarter of an hour.
        if rounds >= len(AIMS):
            self.assertGreater(self.tight, 0)
        print(f"{rounds} runs cut off by kill -9 of {killed}; "
              f"in {dict(sorted(self.seen.items()))}; {self.left} later runs left a node out")
        hit = self.seen.copy()
        del hit["over"]
        self.must_have_hit(hit, rounds, AIMS[:-1])

    def until(self, condition, seconds=5.0):
        """Waits for it; False when it does not come."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def signal_nodes(self, sig):
        for node in self.cluster.daemons:
            node.process.send_signal(sig)

    def coordinator_stops(self, run):
        """Waits until it has; False when the run is over before."""
        coordinator = self.cluster.coordinator
        return self.until(lambda: coordinator.stopped or run.process.poll() is not None) and \
            coordinator.stopped

    def shown(self, run):
        """The step in which the run waits for a node."""
        after = len(run.shown)
        # What the client shows is half a second old at most, and so is what it knows.
        self.until(lambda: run.process.poll() is not None, 0.6)
        after = max(after, len(run.shown))
        self.until(lambda: run.step(after) or run.process.poll() is not None, 1.5)
        return run.step(after)

    def wait_in(self, aim):
        """Starts a run, which then waits. (The run, the step it is in or "".)"""
        coordinator = self.cluster.coordinator
        if aim == "census":
            self.signal_nodes(signal.SIGSTOP)
            run = Run(self.v, self.path("run"))
            return run, "census" if self.shown(run) == "asking" else ""
        if aim == "by time":
            run = Run(self.v, self.path("run"))
            time.sleep(self.rng.uniform(0, 0.6))
            return run, "" if run.process.poll() is None else "over"
        rule = {"purge": "sync */catalogue/*.log 1 1 stop", "begin": "sync */catalogue/*.log 2 1 stop",
                "compact": "list */gc 2 1 stop"}.get(aim, "list */gc 1 1 stop")
        self.of_coordinator.set(rule)
        run = Run(self.v, self.path("run"))
        stopped = self.coordinator_stops(run)
        self.of_coordinator.set()
        if not stopped:
            return run, "over"
        if aim == "mark":
            return run, "mark"
        if aim in ("purge", "begin", "survey"):
            self.signal_nodes(signal.SIGSTOP)
        elif aim == "sweep":
            self.of_nodes.set("write */segments/*.seg 1 1 stop")
        else:
            self.of_nodes.set(f"{CHANGES} */node/* {self.rng.randrange(1, 30)} 1 stop")
        coordinator.process.send_signal(signal.SIGCONT)
        if aim in ("sweep", "compact"):
            self.until(lambda: any(n.stopped for n in self.cluster.daemons), 3)
            self.of_nodes.set()
        step = self.shown(run)
        return run, "begin" if step == "asking" else step

    def kill(self, whom):
        cluster = self.cluster
        nodes = sorted(cluster.daemons, key=lambda n: not n.stopped)
        node = nodes[0] if nodes[0].stopped and not nodes[1].stopped else self.rng.choice(nodes)
        victims = {"node": [node], "coordinator": [cluster.coordinator],
                   "both": [cluster.coordinator, node]}[whom]
        for victim in victims:
            victim.kill()
        for daemon in [cluster.coordinator, *cluster.daemons]:
            if daemon.runs:
                daemon.process.send_signal(signal.SIGCONT)
        time.sleep(self.rng.uniform(0, 0.5))
        for victim in victims:
            victim.start()

    def start_ingest(self, root):
        with open(self.path("ingest"), "wb") as out, open(self.path("ingest.err"), "wb") as err:
            return subprocess.Popen(self.v.args("ingest", root, "--to", "c", "--json", "--quiet"),
                                    stdout=out, stderr=err)

    def finish_ingest(self, child, name, root):
        """What it acknowledged is there, whether it came to its end or not; then all of it."""
        if child.wait(timeout=300) == 0:
            return
        with open(self.path("ingest"), "rb") as lines:
            entries = [json.loads(line) for line in lines if line.endswith(b"\n")]
        for entry in entries:
            path = harness.name_of(entry)[len(name) + 1:] if entry["type"] == "object" else b""
            if path:
                with open(os.path.join(root, path.decode()), "rb") as file:
                    self.assertEqual(file.read(), self.v.cat(f"{name}/{path.decode()}"))
        self.v.ingest(root)

    def finish_gc(self):
        """The next run comes through; one may still find that the coordinator has not met a node again."""
        for _ in range(5):
            result = self.v.run("gc", *ALL_GOES, "--json", expect={harness.OK, harness.SOME_FAILED})
            report = result.json_of("gc")[-1]
            if result.code == harness.OK:
                return report
            for note in report["notes"]:
                self.assertIn("nobody answers", note)
            self.left += 1
            time.sleep(1)
        self.fail(str(result))

    def one_round(self, aim, whom):
        """Whether the run was still under way when the kill came."""
        self.round += 1
        self.add_tree()
        self.remove_a_tree()
        name, root = self.make_tree()
        # An ingest writes to the catalogue too.
        ingest = self.start_ingest(root) if aim not in ("purge", "begin") else None
        run, step = self.wait_in(aim)
        ingest = ingest or self.start_ingest(root)
        # Not seen in a step that was aimed at, but under way all the same, is a kill at some time.
        hit = run.process.poll() is None
        self.seen[(step or "by time") if hit else "over"] += 1
        self.kill(whom)
        code, said = run.wait(180)
        self.assertIn(code, (0, harness.FAILED, harness.SOME_FAILED), said)
        self.finish_ingest(ingest, name, root)
        self.trees.append(name)
        self.cluster.wait_until_well()
        report = self.finish_gc()
        self.v.fsck()
        self.must_be_all(report)
        if len(self.trees) > 3:
            self.remove_a_tree()
        return hit


if __name__ == "__main__":
    harness.main()
