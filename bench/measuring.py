"""What the benches share: running commands under a clock, clusters, corpora, the machine's name."""

import datetime
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAME = os.path.basename(sys.argv[0])


def fail(message):
    print(f"{NAME}: {message}", file=sys.stderr)
    sys.exit(1)


def say(message):
    print(f"{NAME}: {message}", file=sys.stderr, flush=True)


class Run:
    """Wall and CPU seconds and peak memory of one command."""

    def __init__(self, wall, cpu, max_rss_bytes):
        self.wall, self.cpu, self.max_rss_bytes = wall, cpu, max_rss_bytes


def run(args, sync=None, env=None, cwd=None):
    """Runs args, then syncs the file system of `sync`, all inside the clock."""
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        child = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=cwd)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if sync:
            subprocess.run(["sync", "-f", sync], check=True)
        wall = time.perf_counter() - start
        if child.returncode != 0:
            log.seek(0)
            tail = log.read()[-2000:].decode("utf-8", "replace")
            fail(f"exit {child.returncode}: {' '.join(args)}\n{tail}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Cluster:
    """scripts/dev-cluster.sh, for as long as it is entered."""

    PORT = "17400"

    def __init__(self, binary, work, nodes=1, replicas=None, keep=False, env=None):
        self.binary, self.dir, self.nodes = binary, os.path.join(work, "cluster"), nodes
        self.replicas, self.keep = replicas or min(nodes, 3), keep
        self.env = dict(os.environ, HOLDFAST_BINARY=binary, HOLDFAST_PORT=self.PORT, **(env or {}))
        self.vault, self.key = f"tcp://127.0.0.1:{self.PORT}", os.path.join(self.dir, "key")

    def __enter__(self):
        os.mkdir(self.dir)
        run([self.binary, "cluster", "init", os.path.join(self.dir, "coordinator"), "--listen",
             self.vault, "--key", self.key, "--replicas", str(self.replicas)])
        self.script = subprocess.Popen([os.path.join(ROOT, "scripts/dev-cluster.sh"), str(self.nodes),
                                        self.dir], env=self.env, stdout=subprocess.PIPE, text=True)
        line = self.script.stdout.readline()
        if "run in" not in line:
            fail(f"no cluster: {line}")
        children = subprocess.run(["pgrep", "-P", str(self.script.pid)], capture_output=True, text=True,
                                  check=True).stdout.split()
        self.daemons = {}  # Process by its config file's directory.
        for pid in children:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as words:
                config = words.read().split("\0")[-2]
            self.daemons[os.path.basename(os.path.dirname(config))] = int(pid)
        return self

    def __exit__(self, *_):
        self.script.send_signal(signal.SIGTERM)
        self.script.wait()
        if not self.keep:
            remove(self.dir)

    def command(self, *args):
        return [self.binary, "--vault", self.vault, "--key", self.key, *args]


def first_line(args):
    try:
        out = subprocess.run(args, capture_output=True, check=True).stdout.decode()
        return out.splitlines()[0] if out else ""
    except (OSError, subprocess.CalledProcessError):
        return ""


def remove(*paths):
    for path in paths:
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.unlink(path)


def read_all(source):
    """Brings the source into the page cache."""
    buffer = bytearray(1 << 20)
    for top, _, names in os.walk(source):
        for name in names:
            with open(os.path.join(top, name), "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def measure(tree):
    files = size = 0
    for top, _, names in os.walk(tree):
        for name in names:
            files += 1
            size += os.lstat(os.path.join(top, name)).st_size
    return files, size


def machine():
    cpu = ""
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo", encoding="ascii") as info:
        memory = int(info.readline().split()[1]) * 1024
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_bytes": memory,
            "kernel": platform.release(),
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")}


def spread(values):
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def find_built(option, *paths):
    if option:
        return os.path.abspath(option)
    for path in paths:
        if os.access(os.path.join(ROOT, path), os.X_OK):
            return os.path.join(ROOT, path)
    return None


def prepare_corpus(args, work):
    """(directory, name)"""
    if os.path.isdir(args.corpus):
        return os.path.abspath(args.corpus), os.path.basename(os.path.abspath(args.corpus))
    if args.corpus not in ("M", "S"):
        fail(f"--corpus {args.corpus}: give a directory, M or S")
    generator = find_built(None, *(os.path.join(os.path.dirname(os.path.relpath(b, ROOT)),
                                                "bench/holdfast-corpus")
                                   for b in [args.holdfast] if b),
                           "build/release/bench/holdfast-corpus")
    generator = generator or shutil.which("holdfast-corpus")
    if not generator:
        fail("no holdfast-corpus: build it (scripts/build.sh)")
    out = os.path.join(work, f"corpus-{args.corpus}")
    say(f"making corpus {args.corpus}, scale {args.scale:g}")
    subprocess.run([generator, "--out", out, "--preset", args.corpus, "--scale", str(args.scale),
                    "--seed", str(args.seed)], check=True, stdout=sys.stderr)
    scaled = f" × {args.scale:g}" if args.scale != 1 else ""
    return out, f"Corpus {args.corpus}{scaled}"
