"""Garbage collection in an embedded vault that is cut off in a step that is chosen."""

import collections
import json
import os
import shutil
import subprocess
import tempfile
import time

import harness
from faults import CHANGES, Faults
from gc_test import GcCase
from harness import FULL, KIND_CHUNK, KIND_PART, write_file

PHASES = ["open", "census", "purge", "start", "begin", "mark", "survey", "sweep", "compact", "close"]
ALL_GOES = ["--undo-window", "0", "--grace", "0"]


def phase_of(calls):
    """Which step of a run had begun when its last call, which was not done, was to be done; of a run
    that has something to purge, of fewer than a thousand versions.

    The disk is all that a killed run leaves. So it is in "survey" from when its snapshot is noted
    until it sweeps, and in "census" from when the vault is open until it changes something.
    """
    phase, doors, written = "open", 0, collections.Counter()
    for call in calls[:-1] if calls else []:
        catalogue_log = call.path.endswith(".log") and "/catalogue/" in call.path
        segment = call.path.endswith(".seg") and "/segments/" in call.path
        marks = call.what == "list" and call.path.endswith("/gc")
        if call.what == "listen":
            doors += 1
            phase = "census" if doors == 2 else phase
        elif doors < 2:
            continue
        elif call.what == "write" and segment:
            written[os.path.dirname(call.path)] += 1
            most = max(written.values())
            if phase == "start" and most == 2:
                phase = "begin"
            elif phase == "survey":
                phase = "sweep"
        elif call.what == "write" and catalogue_log:
            if phase == "census":
                phase = "purge"
            elif phase == "purge" and written:
                phase = "start"
        elif call.what == "sync" and catalogue_log and phase == "mark":
            phase = "survey"
        elif marks:
            phase = {"begin": "mark", "sweep": "compact", "survey": "compact"}.get(phase, phase)
        elif call.what == "unlink" and call.path.endswith("/door"):
            phase = "close"
    return phase


def quick_disk(test):
    """Where a vault goes that needs no disk of its own: where a sync takes no time, if there is such a
    place. kill -9 leaves the page cache, so it makes no difference."""
    if os.geteuid() != 0:
        return tempfile.mkdtemp(dir=test.tmp)
    return harness.SmallDisk(test, 512, in_memory=True).path


class GcRounds(GcCase):
    """Rounds of ingest, rm and a gc that is cut off, of one vault."""

    def begin(self, vault, rng):
        self.v, self.rng = vault, rng
        self.source = self.path(f"trees{len(os.listdir(self.tmp))}")
        self.trees, self.removed, self.round, self.made = [], [], 0, 0
        self.seen, self.tight = collections.Counter(), 0
        self.faults = Faults(self)
        for _ in range(2):
            self.add_tree()
        self.plan = None

    def make_tree(self):
        """(Its name, its path.) A part of it is what others have, or had."""
        self.made += 1
        name = f"t{self.made}"
        root = os.path.join(self.source, name)
        os.makedirs(root)
        known = [os.path.join(self.source, tree, file) for tree in self.trees + self.removed[-3:]
                 for file in sorted(os.listdir(os.path.join(self.source, tree)))]
        for i in range(10):
            data = self.rng.randbytes(self.rng.randrange(1, 400_000))
            if known and i % 3 == 2:
                with open(self.rng.choice(known), "rb") as file:
                    data = file.read() + (data[:1000] if i % 2 else b"")
            write_file(os.path.join(root, f"f{i}"), data)
        return name, root

    def add_tree(self):
        name, root = self.make_tree()
        self.v.ingest(root)
        self.trees.append(name)

    def remove_a_tree(self):
        name = self.trees.pop(self.rng.randrange(len(self.trees)))
        self.v.run("rm", "-r", f"c/{name}")
        self.removed.append(name)


    def run_gc(self, *args, wait=None):
        """Its exit code. With `wait`, it is killed so many seconds after it met a rule."""
        self.faults.forget()
        with open(self.path("gc.out"), "wb") as out:
            child = subprocess.Popen(self.v.args("gc", *args), stdout=out, stderr=out,
                                     env=self.faults.env)
        deadline = time.monotonic() + 120
        while child.poll() is None:
            if wait is not None and self.faults.hits():
                time.sleep(wait)
                child.kill()
            self.assertLess(time.monotonic(), deadline, "no end of gc")
            time.sleep(0.002)
        with open(self.path("gc.out"), "rb") as out:
            self.said = out.read().decode()
        return child.returncode

    def aim(self, phase):
        """(how many calls until one while `phase` is under way, that call), as the last whole run went."""
        if self.plan is None:
            self.faults.set()
            self.add_tree()
            self.remove_a_tree()
            self.assertEqual(0, self.run_gc(*ALL_GOES), self.said)
            calls = self.faults.calls()
            # Reads and listens are no changes, but phase_of looks at the latter.
            changes = set(CHANGES.split(","))
            self.plan = collections.defaultdict(list)
            count = 0
            for i, call in enumerate(calls):
                if call.what in changes:
                    count += 1
                    self.plan[phase_of(calls[:i + 1])].append((count, call))
            self.assertEqual(set(PHASES), set(self.plan))
        return self.rng.choice(self.plan[phase])

    def cut_off(self, phase, action="kill", wait=None, args=ALL_GOES):
        """One run that ends in about that phase. The phase that it got to, None if it came through."""
        count, call = self.aim(phase)
        if action == "kill" and call.what == "write" and self.rng.random() < 0.5:
            action = "half"
        self.faults.set(f"{CHANGES} * {count} 1 {action}")
        code = self.run_gc(*args, wait=wait)
        hits = self.faults.hits()
        self.faults.set()
        if not hits:
            self.assertEqual(0, code, self.said)
            return None
        calls = self.faults.calls()
        at = calls.index(hits[0])
        return phase_of(calls[:at + 1])

    def must_hold(self, context):
        """What is live reads back; and the next gc finishes the job."""
        with self.subTest(**context):
            self.v.fsck()
            if self.round % 3 == 0:
                self.v.verify()
            # A second one may be cut off as well.
            if self.rng.random() < 0.25:
                self.cut_off(self.rng.choice(PHASES))
            self.assertEqual(0, self.run_gc(*ALL_GOES, "--json"), self.said)
            self.must_be_all(json.loads(self.said))
            if FULL:
                self.v.fsck()

    def must_be_all(self, report):
        """What is live reads back; and after that gc there is nothing else."""
        self.v.verify()
        self.must_restore(*self.trees)
        self.must_be_tight()
        # Of what an open session may still commit, some more may be there.
        if report["held_records"] == 0:
            there = {record.id for record in self.v.records(KIND_CHUNK, KIND_PART)}
            self.assertEqual(report["marked_records"], len(there))
            self.tight += 1

    def rounds(self, phases, action="kill", wait=None):
        for phase in phases:
            # One that came through is tried again.
            any(self.one_round(phase, action, wait) for _ in range(3))

    def one_round(self, phase, action, wait):
        """Whether the run was cut off."""
        self.round += 1
        self.add_tree()
        self.remove_a_tree()
        # Now and then there is some in the trash already, or it stays there.
        if self.rng.random() < 0.2:
            self.assertEqual(0, self.run_gc("--undo-window", "0", "--grace", "1h"), self.said)
            self.add_tree()
            self.remove_a_tree()
        args = self.rng.choice([ALL_GOES, ALL_GOES, ALL_GOES, [*ALL_GOES, "--sparse-only"]])
        hit = self.cut_off(phase, action, wait() if wait else None, args)
        if hit:
            self.seen[hit] += 1
        self.after_cut(hit)
        self.must_hold({"round": self.round, "aimed": phase, "hit": hit, "action": action})
        for tree in self.removed[:-3]:
            shutil.rmtree(os.path.join(self.source, tree), ignore_errors=True)
        return hit is not None

    def after_cut(self, hit):
        pass

    def say(self, seen=None):
        seen = seen or self.seen
        print(f"{sum(seen.values())} runs cut off: " +
              ", ".join(f"{phase} {seen[phase]}" for phase in PHASES))

    def must_have_hit(self, seen, rounds, steps):
        """Of so many rounds few came through; with enough of them each of the steps was hit."""
        hits = sum(seen.values())
        self.assertGreaterEqual(hits, max(1, rounds * 7 // 8), f"{rounds - hits} came through: {seen}")
        if rounds >= 3 * len(steps):
            self.assertLessEqual(set(steps), set(seen))
