#!/usr/bin/env python3
"""Who has a key to a cluster and misuses it; and who listened to one who has.

Messages replayed, forged and never ending, said by hand (curve.py).
"""

import contextlib
import os
import socket
import subprocess
import time

import curve
import harness
from cluster import Cluster
from harness import MIB


class InsidersTest(harness.HoldfastTest):

    def setUp(self):
        super().setUp()
        self.cluster = Cluster(self, self.path("cluster"), nodes=3)
        self.source = self.path("source")
        harness.make_media_tree(self.source, harness.SEED, files=60, mean=60_000)
        self.cluster.ingest(self.source)
        key = self.path("principal")
        self.cluster.run("key", "new-principal", "--roles", "ingest", "--name", "camera", "--out", key)
        public, secret, coordinator = curve.keys_of(key)
        self.keys = public, secret
        # (control port, server's key) of each.
        self.doors = [(int(self.cluster.dir.rsplit(":", 1)[1]), coordinator)]
        self.cluster.wait_until_well()  # The new principal is on all nodes.
        for node in self.cluster.run("status", "--json").json[-1]["nodes"]:
            home = os.path.join(self.cluster.base, f"node-{node['node']}")
            self.doors.append((int(node["path"].rsplit(":", 1)[1]),
                               curve.keys_of(os.path.join(home, "node.key"))[0]))

    def everything_is_there(self):
        to = self.new_dir("out")
        self.cluster.restore(os.path.join(to, "c"), timeout=120)
        subprocess.run(["diff", "-r", self.source, os.path.join(to, "c", "source")], check=True)
        harness.remove_tree(to)
        self.cluster.verify()

    def pong(self, caller):
        body, more = caller.receive()
        self.assertEqual(b"HFrpc\x01\x04", body[:7])
        while more:
            _, more = caller.receive()

    def hangs_up(self, caller):
        """Nothing more comes but the end."""
        caller.socket.settimeout(15)
        with self.assertRaises(ConnectionError):
            caller.receive()

    def test_keys(self):
        """Who has both keys is answered; who lacks one is not."""
        for port, server in self.doors:
            for p in (port, port + 1):
                with curve.Caller(p, self.keys, server) as caller:
                    caller.send_frame(0, caller.message(curve.ping()))
                    self.pong(caller)
                with self.assertRaises(ConnectionError):
                    curve.Caller(p, curve.new_keys(), server)
                with self.assertRaises(ConnectionError):
                    curve.Caller(p, self.keys, curve.new_keys()[0])
        self.everything_is_there()

    def test_replayed_and_forged(self):
        for port, server in self.doors:
            with curve.Caller(port, self.keys, server) as caller:
                message = caller.message(curve.ping())
                caller.send_frame(0, message)
                self.pong(caller)
                caller.send_frame(0, message)
                self.hangs_up(caller)
            with curve.Caller(port, self.keys, server) as caller:
                message = bytearray(caller.message(curve.ping()))
                message[-1] ^= 1
                caller.send_frame(0, bytes(message))
                self.hangs_up(caller)
                recorded = caller.sent
            with socket.create_connection(("127.0.0.1", port), timeout=15) as listener:
                listener.sendall(recorded)
                got = b""
                with contextlib.suppress(ConnectionError):
                    while some := listener.recv(4096):
                        got += some
                self.assertNotIn(b"READY", got)
        self.everything_is_there()

    def test_an_endless_message(self):
        """It fills the process to its limit; then the connection or the process ends, and all is well."""
        node = self.cluster.daemons[1]
        port, server = self.doors[2]
        limit = self.virtual_bytes(node) + 512 * MIB
        node.kill()
        # The limit is of address space: what is freed has to leave it, for all threads' sake.
        node.enter = ["env", "MALLOC_CONF=retain:false,dirty_decay_ms:0,muzzy_decay_ms:0",
                      "prlimit", f"--as={limit}"]
        node.start()
        self.cluster.wait_until_well()
        part = bytes(8 * MIB)
        with curve.Caller(port + 1, self.keys, server) as caller:
            caller.socket.settimeout(60)
            sent = 0
            with self.assertRaises(OSError):
                while sent < 4096 * MIB:
                    caller.send_frame(0, caller.message(part, more=True))
                    sent += len(part)
        time.sleep(1)
        print(f"{sent // MIB} MiB; {'it lives on' if node.runs else 'it ended'}")
        if not node.runs:
            started = time.monotonic()
            node.start()
            self.assertLess(time.monotonic() - started, 2)
        self.cluster.wait_until_well()
        self.everything_is_there()

    @staticmethod
    def virtual_bytes(daemon):
        with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmPeak")) * 1024


if __name__ == "__main__":
    harness.main()
