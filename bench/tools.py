"""The tools that bench/compare runs, each with its steps: what a user would type, and no more.

A tool has `store`, where it keeps what it stored (None: it keeps nothing), `make`, and a method for
each step of STEPS that it can do; the others are None. A step returns its Run. `encrypted` and
`digests` say what it does for its time.
"""

import os
import shutil
import subprocess

from measuring import first_line, remove, run

STEPS = ["first", "again", "verify", "restore"]


class Holdfast:
    name = "holdfast"

    def __init__(self, binary, work):
        self.binary = binary
        self.store = os.path.join(work, "holdfast-vault")
        self.key = os.path.join(work, "holdfast-key")

    def verb(self, *args):
        return [self.binary, "--vault", self.store, "--key", self.key, "--quiet", *args]

    def make(self):
        remove(self.store, self.key)
        run([self.binary, "init", self.store, "--key", self.key])

    def first(self, source):
        return run(self.verb("ingest", source + "/.", "--to", "corpus"), sync=self.store)

    def again(self, source):
        return self.first(source)

    def verify(self):
        return run(self.verb("verify"))

    def restore(self, to):
        os.mkdir(to)
        return run(self.verb("restore", "corpus", "--to", to), sync=to)

    def restored(self, to, source):
        return to

    def version(self):
        return first_line([self.binary, "--version"]) or "built from this tree"


class Restic:
    name = "restic"

    def __init__(self, binary, work):
        self.binary = binary
        self.store = os.path.join(work, "restic-repo")
        self.env = dict(os.environ, RESTIC_PASSWORD="compare", RESTIC_REPOSITORY=self.store)

    def restic(self, *args, sync=None):
        return run([self.binary, "--no-cache", "--quiet", *args], sync=sync, env=self.env)

    def make(self):
        remove(self.store)
        self.restic("init")

    def first(self, source):
        return self.restic("backup", source, sync=self.store)

    def again(self, source):
        return self.restic("backup", "--force", source, sync=self.store)

    def verify(self):
        return self.restic("check", "--read-data")

    def restore(self, to):
        os.mkdir(to)
        return self.restic("restore", "latest", "--target", to, sync=to)

    def restored(self, to, source):
        return to + os.path.abspath(source)

    def version(self):
        return first_line([self.binary, "version"])


class Borg:
    """Authenticated encryption, lz4, HMAC-SHA-256 of chunks; default settings."""

    name = "borg"

    def __init__(self, binary, work):
        self.binary = binary
        self.store = os.path.join(work, "borg-repo")
        self.home = os.path.join(work, "borg-home")
        self.env = dict(os.environ, BORG_PASSPHRASE="compare", BORG_BASE_DIR=self.home,
                        BORG_REPO=self.store)

    def borg(self, *args, sync=None, cwd=None):
        return run([self.binary, *args], sync=sync, env=self.env, cwd=cwd)

    def make(self):
        remove(self.store, self.home)
        self.borg("init", "--encryption", "repokey")

    def first(self, source):
        return self.borg("create", "::first", source, sync=self.store)

    def again(self, source):
        return self.borg("create", "--files-cache", "disabled", "::again", source, sync=self.store)

    def verify(self):
        return self.borg("check", "--verify-data")

    def restore(self, to):
        os.mkdir(to)
        return self.borg("extract", "::again", sync=to, cwd=to)

    def restored(self, to, source):
        return to + os.path.abspath(source)

    def version(self):
        return first_line([self.binary, "--version"])


class Casync:
    """Not encrypted; zstd, SHA-512/256 of chunks; it cannot verify a store."""

    name = "casync"

    def __init__(self, binary, work):
        self.binary = binary
        self.store = os.path.join(work, "casync")

    def make(self):
        remove(self.store)
        os.mkdir(self.store)

    def casync(self, verb, index, tree, sync):
        return run([self.binary, "--store", os.path.join(self.store, "chunks.castr"), verb,
                    os.path.join(self.store, index + ".caidx"), tree], sync=sync)

    def first(self, source):
        return self.casync("make", "first", source, self.store)

    def again(self, source):
        return self.casync("make", "again", source, self.store)

    verify = None

    def restore(self, to):
        os.mkdir(to)
        return self.casync("extract", "again", to, to)

    def restored(self, to, source):
        return to

    def version(self):
        return first_line([self.binary, "--version"])


class Hashdeep:
    """Three digests of every file, and nothing stored."""

    name = "hashdeep"
    store = None

    def __init__(self, binary, _):
        self.binary = binary

    def make(self):
        pass

    def first(self, source):
        return run([self.binary, "-c", "md5,sha1,sha256", "-j2", "-r", source])

    again = None
    verify = None
    restore = None

    def version(self):
        return "hashdeep " + first_line([self.binary, "-V"])


class Copy:
    name = "cp -a"

    def __init__(self, binary, work):
        self.binary = binary
        self.store = os.path.join(work, "cp-store")

    def make(self):
        remove(self.store)
        os.mkdir(self.store)

    def first(self, source):
        return run([self.binary, "-a", source + "/.", self.store], sync=self.store)

    again = None
    verify = None

    def restore(self, to):
        os.mkdir(to)
        return run([self.binary, "-a", self.store + "/.", to], sync=to)

    def restored(self, to, source):
        return to

    def version(self):
        return first_line([self.binary, "--version"])


class Floor:
    """holdfast-floor: what this machine could do at best for a first ingest."""

    name = "floor"

    def __init__(self, binary, work):
        self.binary = binary
        self.store = os.path.join(work, "floor")

    def make(self):
        remove(self.store)
        os.mkdir(self.store)

    def first(self, source):
        return run([self.binary, source, "--store", self.store], sync=self.store)

    again = None
    verify = None
    restore = None

    def version(self):
        return "holdfast-floor"


TOOLS = {"holdfast": Holdfast, "restic": Restic, "borg": Borg, "casync": Casync,
         "hashdeep": Hashdeep, "cp": Copy, "floor": Floor}


def find_tool(word, holdfast, work):
    """The tool of that name; None when it is not installed."""
    beside = {"holdfast": holdfast,
              "floor": os.path.join(os.path.dirname(holdfast or ""), "bench", "holdfast-floor")}
    binary = shutil.which(beside.get(word, word) or "")
    return TOOLS[word](binary, work) if binary else None
