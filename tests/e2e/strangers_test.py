#!/usr/bin/env python3
"""Who talks to a cluster's ports and has no key: silence, noise, frames announced and never sent.

They are dropped; meanwhile and after it the cluster serves those who have one, within its memory,
and its log does not fill with them.
"""

import contextlib
import os
import random
import resource
import socket
import struct
import subprocess
import threading
import time

import harness
from cluster import Cluster
from curve import COMMAND, GREETING, LONG, MORE
from harness import FULL, MIB

HALF_OPEN = 10_000 if FULL else 2_000
NOISE_ROUNDS = 2_000 if FULL else 150
HANDSHAKE_SECONDS = 5  # After so long a connection that has not proved itself is closed.

SHORT = 0x00  # A frame of a message (ZMTP 3.1, rfc.zeromq.org/spec/37).


def frame(flags, body, announced=None):
    size = len(body) if announced is None else announced
    if flags & LONG or size > 255:
        return bytes([flags | LONG]) + struct.pack(">Q", size) + body
    return bytes([flags, size]) + body


def hello(rng):
    """A CurveZMQ HELLO of the right form, its box of noise (rfc.zeromq.org/spec/26)."""
    return (b"\x05HELLO" + b"\x01\x00" + bytes(72) + rng.randbytes(32) + rng.randbytes(8)
            + rng.randbytes(80))


class StrangersTest(harness.HoldfastTest):

    @classmethod
    def setUpClass(cls):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self, self.path("cluster"), nodes=3)
        self.source = self.path("source")
        harness.make_media_tree(self.source, harness.SEED, files=60, mean=60_000)
        self.cluster.ingest(self.source)
        self.rounds = 0
        self.ports = [port for daemon in [self.cluster.coordinator, *self.cluster.daemons]
                      for port in self.ports_of(daemon)]

    @staticmethod
    def ports_of(daemon):
        """What it listens on."""
        inodes = set()
        base = f"/proc/{daemon.process.pid}/fd"
        for fd in os.listdir(base):
            with contextlib.suppress(OSError):
                target = os.readlink(os.path.join(base, fd))
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
        ports = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with open(table, encoding="ascii") as lines:
                for line in list(lines)[1:]:
                    fields = line.split()
                    if fields[3] == "0A" and fields[9] in inodes:
                        ports.add(int(fields[1].rsplit(":", 1)[1], 16))
        return sorted(ports)

    def connect(self, port):
        s = socket.create_connection(("127.0.0.1", port), timeout=10)
        s.setblocking(True)
        return s

    def serves(self, seconds=30):
        result = self.cluster.run("ls", "c")
        self.assertLess(result.seconds, seconds, str(result))
        self.rounds += 1
        to = self.new_dir(f"out{self.rounds}")
        result = self.cluster.restore(os.path.join(to, "c"), timeout=120)
        subprocess.run(["diff", "-r", self.source, os.path.join(to, "c", "source")], check=True)
        harness.remove_tree(to)

    def still_well(self):
        self.serves()
        self.cluster.ingest(self.source, to="after")
        self.cluster.wait_until_well()
        for daemon in [*self.cluster.daemons, self.cluster.coordinator]:
            self.assertTrue(daemon.runs, daemon.said())
            self.assertLess(daemon.peak_rss_bytes(), 512 * MIB)
            self.assertLess(len(daemon.said()), 64 * 1024, "the log fills")

    def test_half_open_connections(self):
        """Thousands that connect and say nothing, or half a greeting, at every port in turn."""
        self.assertGreaterEqual(len(self.ports), 8)
        with contextlib.ExitStack() as sockets:
            for i in range(HALF_OPEN):
                s = sockets.enter_context(self.connect(self.ports[i % len(self.ports)]))
                s.sendall(GREETING[:i % 64])
                if i == HALF_OPEN // 2:
                    self.serves()
            self.serves()
        self.still_well()

    def test_they_are_dropped(self):
        """One that says nothing, one that trickles, one that greets and stays silent."""
        for port in self.ports if FULL else random.sample(self.ports, 2):
            with self.connect(port) as silent, self.connect(port) as drip, \
                    self.connect(port) as greeted:
                greeted.sendall(GREETING)
                over = time.monotonic() + 4 * HANDSHAKE_SECONDS
                for i in range(len(GREETING)):
                    with contextlib.suppress(OSError):
                        drip.sendall(GREETING[i:i + 1])
                    time.sleep(0.02 if i < 60 else 2)
                for s in (silent, drip, greeted):
                    self.ends_before(s, over)
        self.still_well()

    def ends_before(self, s, deadline):
        """Reads until the other side hangs up."""
        try:
            while True:
                s.settimeout(max(0.1, deadline - time.monotonic()))
                if not s.recv(4096):
                    return
        except ConnectionError:
            return
        except TimeoutError:
            self.fail("a stranger's connection is kept")

    def test_noise(self):
        """Greetings, then what no peer would say: huge frames announced, random commands and bytes."""
        rng = random.Random(harness.SEED)
        print("seed", harness.SEED)
        stop = threading.Event()
        served, failed = [], []

        def serve():
            try:
                while not stop.is_set():
                    self.serves()
                    served.append(time.monotonic())
            except BaseException as error:  # Told by the test's own thread.
                failed.append(error)

        server = threading.Thread(target=serve)
        server.start()
        try:
            for _ in range(NOISE_ROUNDS):
                with contextlib.suppress(OSError), self.connect(rng.choice(self.ports)) as s:
                    s.settimeout(0.05)
                    s.sendall(rng.choice([
                        GREETING + frame(COMMAND | LONG, b"", announced=1 << 31),
                        GREETING + frame(LONG, b"", announced=(1 << 63) - 1),
                        GREETING + frame(COMMAND, hello(rng)),
                        GREETING + frame(COMMAND, hello(rng)[:rng.randrange(200)]),
                        GREETING + frame(COMMAND, b"\x08INITIATE" + rng.randbytes(300)),
                        GREETING + frame(SHORT, rng.randbytes(rng.randrange(200))),
                        GREETING + frame(MORE, b"x") * 1000,
                        GREETING + rng.randbytes(rng.randrange(5000)),
                        GREETING.replace(b"CURVE", b"NULL\0") + frame(COMMAND, b"\x05READY"),
                        GREETING.replace(b"CURVE", b"PLAIN") + frame(COMMAND, b"\x05HELLO\x00\x00"),
                        rng.randbytes(rng.randrange(1, 5000)),
                        bytes(rng.randrange(1, 100_000)),
                    ]))
                    with contextlib.suppress(TimeoutError):
                        s.recv(4096)
        finally:
            stop.set()
            server.join()
        if failed:
            raise failed[0]
        self.assertGreater(len(served), 0)
        self.still_well()


if __name__ == "__main__":
    harness.main()
