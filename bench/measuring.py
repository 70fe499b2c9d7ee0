"""What the benches share: running commands under a clock, corpora, the machine's name."""

import datetime
import os
import platform
import shutil
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


def run(args, sync=None, env=None):
    """Runs args, then syncs the file system of `sync`, all inside the clock."""
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        child = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
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
