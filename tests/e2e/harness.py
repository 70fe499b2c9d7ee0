"""What the end-to-end tests share: running the binary, comparing trees, reading segments.

Every test file runs alone:  tests/e2e/roundtrip_test.py [-v] [TestClass.test_name]
Environment:
  HOLDFAST_BINARY         the binary (default: build/release/holdfast, then any other build/*)
  HOLDFAST_CORPUS_BINARY  holdfast-corpus, likewise
  HOLDFAST_E2E_FULL=1     the long versions
  HOLDFAST_E2E_SEED=N     repeats a run with the seed that it printed
  TMPDIR                  where test data goes (must be a real disk: writes use O_DIRECT)
"""

import collections
import contextlib
import ctypes
import fcntl
import glob
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FULL = os.environ.get("HOLDFAST_E2E_FULL", "") not in ("", "0")
SEED = int(os.environ.get("HOLDFAST_E2E_SEED") or int.from_bytes(os.urandom(4), "little"))

OK, FAILED, USAGE, SOME_FAILED, NOT_FOUND, INTEGRITY = 0, 1, 2, 3, 4, 5
NO_VAULT, BUSY, ACCESS = 10, 11, 12

MIB = 1 << 20


def _find(variable, *patterns):
    if os.environ.get(variable):
        return os.path.abspath(os.environ[variable])
    for pattern in patterns:
        for path in sorted(glob.glob(os.path.join(ROOT, pattern))):
            if os.access(path, os.X_OK):
                return path
    return None


BINARY = _find("HOLDFAST_BINARY", "build/release/holdfast", "build/*/holdfast")
CORPUS_BINARY = _find("HOLDFAST_CORPUS_BINARY", "build/release/bench/holdfast-corpus",
                      "build/*/bench/holdfast-corpus")

# A name as the operating system has it: raw bytes.
Name = bytes


class Result:
    """How one run of a command ended."""

    def __init__(self, args, code, out, err, seconds, usage):
        self.args, self.code, self.out, self.err = args, code, out, err
        self.seconds, self.usage = seconds, usage
        # The kernel counts the peak of the forking parent too; it is far below any limit here.
        self.max_rss_bytes = usage.ru_maxrss * 1024

    @property
    def error_lines(self):
        return [line for line in self.err.decode("utf-8", "replace").split("\n") if line.strip()]

    @property
    def json(self):
        return [json.loads(line) for line in self.out.splitlines() if line.strip()]

    def json_of(self, kind):
        return [line for line in self.json if line["type"] == kind]

    @property
    def summary(self):
        return self.json_of("summary")[-1]

    def __str__(self):
        shown = b" ".join(os.fsencode(a) for a in self.args).decode("utf-8", "backslashreplace")
        text = f"$ {shown}\nexit {self.code} after {self.seconds:.2f} s"
        for title, data in (("stdout", self.out), ("stderr", self.err)):
            if data:
                tail = data[-3000:].decode("utf-8", "backslashreplace")
                text += f"\n--- {title}\n{tail}"
        return text


def run_command(args, timeout=300, env=None, stdout=None, cwd=None):
    """Runs args to their end; kills them (and fails) after `timeout` seconds."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as err, contextlib.ExitStack() as stack:
        out = stdout if stdout is not None else stack.enter_context(tempfile.TemporaryFile())
        child = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env,
                                 cwd=cwd)
        timed_out = threading.Event()

        def stop():
            timed_out.set()
            child.kill()

        timer = threading.Timer(timeout, stop)
        timer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        finally:
            timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        err_bytes = err.read()
        out_bytes = b""
        if stdout is None:
            out.seek(0)
            out_bytes = out.read()
    result = Result(args, child.returncode, out_bytes, err_bytes, time.monotonic() - start, usage)
    if timed_out.is_set():
        raise AssertionError(f"no end within {timeout} s: {result}")
    return result


def name_of(entry, field="name"):
    """A name from a JSON line, as bytes."""
    if field in entry:
        return entry[field].encode("utf-8")
    import base64
    return base64.b64decode(entry[field + "_b64"])


class Vault:
    """A vault made for one test."""

    def __init__(self, test, directory, nodes=(), init_args=(), make=True):
        self.test = test
        self.dir = os.path.join(directory, "vault")
        self.key = os.path.join(directory, "key")
        self.nodes = [os.path.join(directory, n) for n in nodes]
        if make:
            args = ["init", self.dir, "--key", self.key, *init_args]
            for node in self.nodes:
                args += ["--node", node]
            self.run(*args, vault=False)

    def args(self, *args, key=None, vault=True):
        where = ["--vault", self.dir] if vault else []
        if "--key" not in args:
            where += ["--key", key or self.key]
        return [BINARY, *where, *args]

    def run(self, *args, expect=OK, key=None, vault=True, **kwargs):
        """Runs a verb and checks its exit code: a number, a set of them, or None for any."""
        result = run_command(self.args(*args, key=key, vault=vault), **kwargs)
        expected = {expect} if isinstance(expect, int) else expect
        if expected is not None and result.code not in expected:
            self.test.fail(f"expected exit {sorted(expected)}, seen {result.code}\n{result}")
        return result

    def ingest(self, *sources, to="c", **kwargs):
        return self.run("ingest", *sources, "--to", to, "--json", "--quiet", **kwargs)

    def ls(self, what="c", **kwargs):
        """The names of a collection, in the order they are listed, without trailing slashes."""
        out = self.run("ls", "-0", what, **kwargs).out
        return [name.rstrip(b"/") for name in out.split(b"\0")[:-1]]

    def cat(self, name, *args, to="c", **kwargs):
        return self.run("cat", to.encode() + b"/" + os.fsencode(name), *args, **kwargs).out

    def restore(self, to, what="c", **kwargs):
        return self.run("restore", what, "--to", to, "--quiet", **kwargs)

    def verify(self, *args, **kwargs):
        return self.run("verify", "--json", "--quiet", *args, **kwargs)

    def fsck(self, *args, **kwargs):
        return self.run("fsck", "--json", *args, **kwargs)

    @property
    def node_dirs(self):
        return self.nodes or [os.path.join(self.dir, "node-0")]

    def segment_files(self):
        return [path for node in self.node_dirs
                for path in sorted(glob.glob(os.path.join(glob.escape(node), "segments", "*.seg")))]

    def records(self, *kinds):
        """All records in the segments, as Record, of these kinds (none given: all)."""
        return [record for path in self.segment_files() for record in read_records(path)
                if not kinds or record.kind in kinds]

    def chunk_bytes(self):
        """Stored bytes of chunk records on all nodes."""
        return sum(record.length for record in self.records(KIND_CHUNK))

    def files(self):
        """Every file that belongs to the vault, the key file not among them."""
        return [os.path.join(top, name) for base in [self.dir, *self.nodes]
                for top, _, names in os.walk(base) for name in sorted(names)]

    def save(self, to):
        """Copies the vault's files aside, holes kept."""
        os.makedirs(to)
        for i, base in enumerate([self.dir, *self.nodes]):
            copy_tree(base, os.path.join(to, str(i)))

    def load(self, saved):
        """Puts the files back as they were when saved."""
        for i, base in enumerate([self.dir, *self.nodes]):
            shutil.rmtree(base)
            copy_tree(os.path.join(saved, str(i)), base)


def copy_tree(source, target):
    subprocess.run(["cp", "-a", "--sparse=auto", "--", source, target], check=True)


# Segment files: docs/formats/segment.md. Read here independently of the C++ code.

KIND_CHUNK, KIND_PART, KIND_COMMIT = 1, 2, 3
SEGMENT_MAGIC, BATCH_MAGIC, RECORD_MAGIC = b"HoldfSeg", b"\x89HFB", b"\x89HFR"
BLOCK = 4096
BATCH_HEADER, RECORD_HEADER = 64, 144

Record = collections.namedtuple("Record", "path offset kind length number id")
Record.payload_offset = property(lambda self: self.offset + RECORD_HEADER)


def read_batches(path):
    """[(offset, bytes of the batch)] of one segment, in order."""
    batches = []
    with open(path, "rb") as segment:
        data_begin = BLOCK
        size = os.fstat(segment.fileno()).st_size
        offset = data_begin
        while offset + BATCH_HEADER <= size:
            segment.seek(offset)
            header = segment.read(BATCH_HEADER)
            if header[:4] != BATCH_MAGIC:
                break
            total = struct.unpack_from("<I", header, 44)[0]
            if total == 0 or total % BLOCK:
                break
            segment.seek(offset)
            batches.append((offset, segment.read(total)))
            offset += total
    return batches


def read_records(path):
    records = []
    for begin, batch in read_batches(path):
        offset = BATCH_HEADER
        while batch[offset:offset + 4] == RECORD_MAGIC:
            kind, = struct.unpack_from("<B", batch, offset + 5)
            length, _, _, number = struct.unpack_from("<IQQQ", batch, offset + 12)
            record_id = batch[offset + 88:offset + 120]
            records.append(Record(path, begin + offset, kind, length, number, record_id))
            offset += (RECORD_HEADER + length + 7) // 8 * 8
    return records


def flip(path, offset, bit=0):
    """Flips one bit of the byte at `offset`."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        assert len(byte) == 1, f"{path} has no byte at {offset}"
        file.seek(offset)
        file.write(bytes([byte[0] ^ (1 << bit)]))


# Trees.

class Entry(collections.namedtuple("Entry", "kind mode uid gid mtime_ns size digest link xattrs")):
    """What a restored object must have in common with its source."""


def _digest_at(dir_fd, name):
    digest = hashlib.sha256()
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        while True:
            data = os.read(fd, MIB)
            if not data:
                return digest.hexdigest()
            digest.update(data)
    finally:
        os.close(fd)


def _xattrs_at(dir_fd, name):
    path = b"/proc/self/fd/%d/%s" % (dir_fd, name)
    try:
        return tuple((key, os.getxattr(path, key, follow_symlinks=False))
                     for key in sorted(os.listxattr(path, follow_symlinks=False)))
    except OSError:
        return ()


def scan_tree(root, content=True):
    """({path: Entry}, {frozenset of paths that are one file}, {path: allocated bytes}).

    Paths are bytes below root, "" for root itself; of any length, as everything goes by dir_fd.
    """
    entries, inodes, allocated = {}, collections.defaultdict(set), {}

    def visit(dir_fd, name, path):
        info = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        digest = link = None
        size = 0
        if stat.S_ISREG(info.st_mode):
            size = info.st_size
            allocated[path] = info.st_blocks * 512
            inodes[info.st_dev, info.st_ino].add(path)
            # The names of one file are read once.
            first = min(inodes[info.st_dev, info.st_ino])
            if content:
                digest = entries[first].digest if first in entries else _digest_at(dir_fd, name)
        elif stat.S_ISLNK(info.st_mode):
            link = os.readlink(name, dir_fd=dir_fd)
        entries[path] = Entry(stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode), info.st_uid,
                              info.st_gid, info.st_mtime_ns, size, digest, link,
                              _xattrs_at(dir_fd, name))
        if stat.S_ISDIR(info.st_mode):
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
            try:
                for child in sorted(os.listdir(fd)):
                    child = os.fsencode(child)
                    visit(fd, child, child if not path else path + b"/" + child)
            finally:
                os.close(fd)

    top = os.open(os.path.dirname(os.path.abspath(root)), os.O_RDONLY | os.O_DIRECTORY)
    try:
        visit(top, os.fsencode(os.path.basename(os.path.abspath(root))), b"")
    finally:
        os.close(top)
    links = {frozenset(paths) for paths in inodes.values() if len(paths) > 1}
    return entries, links, allocated


def remove_tree(path):
    """rm -r, also of paths longer than PATH_MAX."""
    subprocess.run(["chmod", "-R", "u+rwX", "--", path], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["rm", "-rf", "--", path], check=False)


class HoldfastTest(unittest.TestCase):
    """A directory of its own per test, removed at the end; comparisons of trees."""

    maxDiff = 2000

    def setUp(self):
        self.assertIsNotNone(BINARY, "no holdfast binary: build it, or set HOLDFAST_BINARY")
        self.tmp = tempfile.mkdtemp(prefix="holdfast-e2e.")
        self.addCleanup(remove_tree, self.tmp)

    def path(self, *names):
        return os.path.join(self.tmp, *names)

    def new_dir(self, *names):
        path = self.path(*names)
        os.makedirs(path)
        return path

    def vault(self, name="v", **kwargs):
        return Vault(self, self.new_dir(name), **kwargs)

    def assert_same_tree(self, source, restored, sparse=False):
        """Content, kind, mode, owner (as root), mtime in ns, xattrs, links, holes."""
        want, want_links, want_allocated = scan_tree(source)
        got, got_links, got_allocated = scan_tree(restored)
        problems = [f"missing: {p!r}" for p in sorted(want.keys() - got.keys())]
        problems += [f"not in the source: {p!r}" for p in sorted(got.keys() - want.keys())]
        for path in sorted(want.keys() & got.keys()):
            for field, w, g in zip(Entry._fields, want[path], got[path]):
                if w == g or (field in ("uid", "gid") and os.geteuid() != 0):
                    continue
                problems.append(f"{path!r}: {field} was {w!r}, restored {g!r}")
        for group in want_links ^ got_links:
            whose = "source" if group in want_links else "restored tree"
            problems.append(f"one file in the {whose} only: {sorted(group)!r}")
        if sparse:
            for path in want_allocated.keys() & got_allocated.keys():
                if got_allocated[path] > want_allocated[path] + 2 * MIB:
                    problems.append(f"{path!r}: {want_allocated[path]} bytes allocated became "
                                    f"{got_allocated[path]}")
        if problems:
            shown = "\n".join(problems[:20])
            self.fail(f"{len(problems)} differences, {source} to {restored}\n{shown}")

    def assert_one_error_line(self, result, *words):
        lines = result.error_lines
        self.assertEqual(1, len(lines), f"one line on stderr is wanted\n{result}")
        for word in words:
            self.assertIn(word, lines[0])


def _own_mounts():
    """Whoever else got a copy of a mount would keep it alive after its umount."""
    ctypes.CDLL(None).unshare(0x00020000)  # CLONE_NEWNS
    subprocess.run(["mount", "--make-rprivate", "/"], check=False, capture_output=True)


class SmallDisk:
    """A small file system of the test's own on a loop device, mounted at `path`, where only this process
    and its children see it; the test is skipped where that cannot be. Its power can be cut.

    With `in_memory` its image is in memory where there is room, so that a sync takes no time.
    """

    # FS_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH; xfs has the same numbers.
    SHUTDOWN, NO_LOG_FLUSH = 0x8004587d, 2

    def __init__(self, test, mib, options="loop", kind="ext4", in_memory=False):
        others = [name for name in os.listdir(test.tmp) if name.startswith("mount")]
        self.path = test.new_dir(f"mount{len(others) or ''}")
        self.image, self.options = self.path + ".image", options
        if os.geteuid() != 0:
            test.skipTest("needs root to mount a small file system")
        with open("/proc/filesystems", encoding="ascii") as known:
            # A kernel with modules may load one when it is asked to mount.
            if kind not in known.read().split() and not os.path.isdir("/lib/modules"):
                test.skipTest(f"this kernel has no {kind}")
        _own_mounts()
        if in_memory and os.path.isdir("/dev/shm") and free_bytes("/dev/shm") > 4 * mib * MIB:
            base = tempfile.mkdtemp(prefix="holdfast-e2e.", dir="/dev/shm")
            test.addCleanup(remove_tree, base)
            self.image = os.path.join(base, "image")
        with open(self.image, "wb") as file:
            file.truncate(mib * MIB)
        make = {"ext4": ["mkfs.ext4", "-q", "-F", "-m", "0"], "xfs": ["mkfs.xfs", "-q", "-f"]}[kind]
        if shutil.which(make[0]) is None:
            test.skipTest(f"no {make[0]}")
        made = subprocess.run([*make, self.image], capture_output=True, check=False)
        if made.returncode != 0:
            test.skipTest(f"{make[0]} failed: {made.stderr.decode()}")
        mounted = self._mount()
        if mounted.returncode != 0:
            test.skipTest(f"cannot mount a loop device with {kind} here: "
                          f"{mounted.stderr.decode().strip()}")
        test.addCleanup(subprocess.run, ["umount", "-l", self.path], check=False,
                        stderr=subprocess.DEVNULL)

    def _mount(self):
        return subprocess.run(["mount", "-o", self.options, self.image, self.path],
                              capture_output=True, check=False)

    def cut_power(self):
        """From here on nothing reaches the disk, and what was not synced never did."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, self.SHUTDOWN, struct.pack("I", self.NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def power_on(self):
        """Mounts it again with what is on the disk; nothing may have a file open on it."""
        subprocess.run(["umount", self.path], check=True)
        mounted = self._mount()
        if mounted.returncode != 0:
            raise AssertionError(f"it does not mount again: {mounted.stderr.decode().strip()}")


class CrashTest(HoldfastTest):
    """Ingests of self.source, whose tree is self.entries, that are cut short; and what must hold."""

    def make_source(self, scale=1.0):
        """About 200 MB times scale: a large file, images, many small ones; some of it twice."""
        self.source = self.path("source")
        make_media_tree(self.source, SEED, files=int(350 * scale), mean=300_000,
                        large=[int(60 * scale) * MIB, 3 * MIB])
        make_media_tree(os.path.join(self.source, "small"), SEED + 1, files=int(2_500 * scale),
                        mean=9_000)
        make_media_tree(os.path.join(self.source, "twice"), SEED, files=int(60 * scale), mean=300_000)
        os.symlink("large0.mp4", os.path.join(self.source, "link"))
        os.link(os.path.join(self.source, "large1.mp4"), os.path.join(self.source, "hard-link"))
        self.entries, _, _ = scan_tree(self.source)
        print(f"{tree_bytes(self.source) / 1e6:.0f} MB in {len(self.entries)} objects")

    def start_ingest(self, vault, log):
        with open(log, "wb") as out, open(log + ".err", "wb") as err:
            return subprocess.Popen(
                vault.args("ingest", self.source, "--to", "c", "--json", "--quiet"),
                stdout=out, stderr=err)

    @staticmethod
    def acknowledged(log):
        """Names in whole lines; the last line may be cut short."""
        names = []
        with open(log, "rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    entry = json.loads(line)
                    if entry["type"] == "object":
                        names.append(name_of(entry))
        return names

    def check(self, vault, acknowledged, rng):
        """All that was acknowledged reads back exact; all else is absent or complete."""
        # Without the collection nothing was acknowledged.
        result = vault.run("ls", "-0", "c", expect={OK, NOT_FOUND})
        listed = {name.rstrip(b"/") for name in result.out.split(b"\0")[:-1]}
        missing = set(acknowledged) - listed
        self.assertFalse(missing, f"{len(missing)} acknowledged, but not listed: {sorted(missing)[:5]}")
        if not listed:
            return
        out = self.path("out")
        vault.restore(out)
        got, _, _ = scan_tree(out)
        for name in listed:
            want = self.entries[name[len(b"source/"):] if name != b"source" else b""]
            have = got.get(name)
            self.assertIsNotNone(have, f"{name!r} is listed, but does not restore")
            self.assertEqual((want.kind, want.size, want.digest, want.link),
                             (have.kind, have.size, have.digest, have.link), name)
        self.assertEqual(set(), {n for n in got if n and n not in listed and got[n].digest})
        remove_tree(out)
        # The same through cat, for a few.
        files = [name for name in acknowledged if self.entries[name[len(b"source/"):]].digest]
        for name in rng.sample(files, min(3, len(files))):
            want = self.entries[name[len(b"source/"):]]
            self.assertEqual(want.digest, hashlib.sha256(vault.cat(name)).hexdigest(), name)

    def finish(self, vault):
        """A re-run finishes the job, and nothing is left that was not so."""
        result = vault.ingest(self.source)
        self.assertEqual(len(self.entries), len(result.json_of("object")))
        vault.fsck()
        vault.verify()
        vault.restore(self.path("all"))
        self.assert_same_tree(self.source, self.path("all/source"))
        remove_tree(self.path("all"))


def write_file(path, data, mode=None):
    with open(path, "wb") as file:
        file.write(data)
    if mode is not None:
        os.chmod(path, mode)
    return path


def random_bytes(size, seed):
    """Incompressible, and the same for the same seed."""
    return random.Random(seed).randbytes(size)


def make_media_tree(root, seed, files, mean=300_000, large=()):
    """Incompressible files of varied sizes in a few directories, `large` ones on top."""
    rng = random.Random(seed)
    os.makedirs(root)
    for i in range(files):
        directory = os.path.join(root, f"d{i % 7}")
        os.makedirs(directory, exist_ok=True)
        size = max(1, int(rng.lognormvariate(0, 0.7) * mean * 0.78))
        write_file(os.path.join(directory, f"f{i:06}.jpg"), rng.randbytes(size))
    for i, size in enumerate(large):
        with open(os.path.join(root, f"large{i}.mp4"), "wb") as out:
            for begin in range(0, size, 8 * MIB):
                out.write(rng.randbytes(min(8 * MIB, size - begin)))


def tree_bytes(root):
    return sum(os.lstat(os.path.join(top, name)).st_size
               for top, _, names in os.walk(root) for name in names)


def free_bytes(path):
    info = os.statvfs(path)
    return info.f_bavail * info.f_frsize


def main():
    """unittest.main with the seed, what was skipped and why, and 77 when all was skipped."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ends the run, with its clean-up.
    print(f"{os.path.basename(sys.argv[0])}: seed {SEED}, {'full' if FULL else 'quick'}, {BINARY}",
          flush=True)
    program = unittest.main(module="__main__", exit=False, verbosity=2)
    for test, reason in program.result.skipped:
        print(f"SKIPPED {test}: {reason}")
    if not program.result.wasSuccessful():
        sys.exit(1)
    if program.result.testsRun and len(program.result.skipped) == program.result.testsRun:
        sys.exit(77)
    sys.exit(0)
