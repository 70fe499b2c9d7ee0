"""File system calls of the binary that fail, or are its last: faults.c, preloaded."""

import atexit
import collections
import os
import shutil
import subprocess
import tempfile

import harness

# What changes something on a disk; and one that only shows where a run has got to.
CHANGES = "write,sync,rename,unlink,truncate,allocate,mkdir,list"

Call = collections.namedtuple("Call", "pid what action path")

_library = None


def library(test):
    """faults.c as a shared library, made once."""
    global _library
    if _library is None:
        compiler = next(filter(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang")), None)
        if compiler is None:
            test.skipTest("no C compiler")
        base = tempfile.mkdtemp(prefix="holdfast-e2e.")
        atexit.register(harness.remove_tree, base)
        path = os.path.join(base, "faults.so")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "faults.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", path, source, "-ldl"], check=True)
        _library = path
    return _library


class Faults:
    """The rules of some processes: those that get `env`."""

    def __init__(self, test, name="faults"):
        self.rules, self.log = test.path(name), test.path(name + ".log")
        self.set()
        self.env = {**os.environ, "LD_PRELOAD": library(test), "HOLDFAST_FAULTS": self.rules,
                    "HOLDFAST_FAULTS_LOG": self.log}

    def set(self, *rules):
        """From the next call on these hold, each a line as in faults.c; what they count begins anew."""
        with open(self.rules + ".new", "w", encoding="ascii") as file:
            file.write("".join(rule + "\n" for rule in rules))
        os.replace(self.rules + ".new", self.rules)

    def forget(self):
        """Empties the log."""
        with open(self.log, "w", encoding="ascii"):
            pass

    def calls(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                return [Call(*line.rstrip("\n").split(" ", 3)) for line in file
                        if line.endswith("\n")]
        except FileNotFoundError:
            return []

    def hits(self):
        """The calls that met a rule."""
        return [call for call in self.calls() if call.action != "-"]
