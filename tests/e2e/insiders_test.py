#!/usr/bin/env python3
"""Who has a key to a cluster and misuses it; and who listened to one who has.

Messages replayed, forged and never ending, and records that are not what they are said to be, by
hand (curve.py).
"""

import base64
import contextlib
import json
import os
import random
import socket
import subprocess
import time

import chunk
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
        self.find_doors()

    def find_doors(self):
        """Makes a principal, and notes where everybody is."""
        key = os.path.join(self.cluster.base, "principal")
        self.cluster.run("key", "new-principal", "--roles", "ingest", "--name", "camera", "--out", key)
        public, secret, coordinator = curve.keys_of(key)
        self.keys = public, secret
        with open(key, encoding="utf-8") as file:
            self.key_file = json.load(file)
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

    def put(self, content, stored, replace=False, kind=1):
        """Puts `stored` on all nodes as the chunk of that content; the replies' codes."""
        domain = bytes.fromhex(self.key_file["domain"].replace("-", ""))
        name = chunk.id_of(base64.b64decode(self.key_file["keys"]["k_dedup"]), content)
        entry = (curve.field(1, name) + curve.field(2, kind) + curve.field(3, 1)
                 + curve.field(4, chunk.checksum(stored)) + curve.field(5, int(replace)))
        head = (curve.field(1, 1) + curve.field(2, domain) + curve.field(3, bytes(16))
                + curve.field(4, entry))
        return [code for code, _ in self.ask_nodes(2, head, [stored])]

    def ask_nodes(self, method, head, payloads=()):
        replies = []
        for i, (port, server) in enumerate(self.doors[1:]):
            with curve.Caller(port + (method == 2), self.keys, server) as caller:
                caller.socket.settimeout(30)
                replies.append(curve.ask(
                    caller, curve.request(method, f"node/{i}", head, payloads)))
        return replies

    def test_garbage_under_the_name_of_content(self):
        """Who comes next with that content is not fooled, and stores it."""
        content = os.urandom(5000)
        self.assertEqual([0, 0, 0], self.put(content, os.urandom(5200)))
        with open(os.path.join(self.source, "expected.jpg"), "wb") as file:
            file.write(content)
        self.cluster.ingest(self.source)
        self.everything_is_there()

    def test_garbage_in_the_place_of_content(self):
        """What was stored before comes back; readers do not see the difference."""
        path = os.path.join(self.source, "d6", "f000006.jpg")
        with open(path, "rb") as file:
            content = file.read()
        self.assertEqual([0, 0, 0], self.put(content, os.urandom(70_000), replace=True))
        out = self.path("out.jpg")
        with open(out, "wb") as file:
            file.write(self.cluster.cat("source/d6/f000006.jpg"))
        subprocess.run(["cmp", path, out], check=True)
        found = self.cluster.verify(expect={harness.OK, harness.INTEGRITY})
        self.assertEqual(harness.INTEGRITY, found.code)  # The nodes that cat did not ask.
        self.everything_is_there()

    def test_garbage_moves_with_what_it_replaced(self):
        """A node that gets a group by repair gets what was set aside there, too."""
        self.cluster.stop()
        self.cluster = Cluster(self, self.path("single"), nodes=2, replicas=1)
        self.cluster.ingest(self.source)
        self.find_doors()
        path = os.path.join(self.source, "d6", "f000006.jpg")
        with open(path, "rb") as file:
            content = file.read()
        holder = self.put(content, os.urandom(70_000), replace=True).index(0)
        self.cluster.run("node", "drain", str(holder))
        deadline = time.monotonic() + 120
        while any(n["groups"] for n in self.nodes_of_map() if n["node"] == holder):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.2)
        self.cluster.run("node", "remove", str(holder))
        self.cluster.daemons[holder].kill()
        self.everything_is_there()

    def test_what_only_others_may_say(self):
        content = os.urandom(5000)
        denied = [7, 7, 7]
        self.assertEqual(denied, self.put(content, content, kind=2))  # Manifest part
        self.assertEqual(denied, self.put(content, content, kind=3))  # Commit record
        quarantine = curve.field(1, bytes(32)) + curve.field(2, bytes(16))
        self.assertEqual(denied, [code for code, _ in self.ask_nodes(4, quarantine)])
        self.everything_is_there()

    def test_a_site_where_nothing_may_be(self):
        self.cluster.stop()
        sites = ["berne", "chur", "berne", "abroad"]
        self.cluster = Cluster(self, self.path("bound"), nodes=4, replicas=3,
                               sites=["chur", "berne"], site_of=lambda i: sites[i])
        self.cluster.ingest(self.source)
        self.find_doors()
        groups = {n["node"]: n["groups"] for n in self.nodes_of_map()}
        self.assertEqual({0: 4096, 1: 4096, 2: 4096, 3: 0}, groups)
        content = os.urandom(5000)
        self.assertEqual([0, 0, 0, 14], self.put(content, content))  # kUnavailable: stale map
        held = sum(os.path.getsize(os.path.join(d, name)) for d, _, names in
                   os.walk(os.path.join(self.cluster.node_dirs[3], "segments")) for name in names)
        self.assertLess(held, 64 << 10)
        self.cluster.daemons[2].kill()  # Its copies find no other place.
        self.cluster.run("node", "remove", "2", "--lost")
        time.sleep(5)
        self.assertEqual(0, self.nodes_of_map()[3]["groups"])

    def nodes_of_map(self):
        return self.cluster.run("status", "--json", expect=None).json[-1]["cluster"]["nodes"]

    def noisy(self, rng, address):
        """A request that is broken somewhere: anywhere."""
        method = rng.choice([*range(1, 13), *range(64, 83), rng.randrange(1 << 16)])
        head = rng.choice([
            rng.randbytes(rng.randrange(80)),
            curve.field(1, rng.randbytes(rng.choice([16, 32, 64, 4096]))),
            curve.field(rng.randrange(1, 6), rng.randrange(1 << rng.randrange(1, 64)))
            + curve.field(rng.randrange(1, 6), rng.randbytes(rng.choice([0, 16, 32, 33])))])
        parts = curve.request(method, address, head, [
            rng.randbytes(rng.randrange(200)) for _ in range(rng.randrange(4))])
        for _ in range(rng.randrange(3)):
            i = rng.randrange(len(parts))
            part = bytearray(parts[i])
            if part and rng.random() < .8:
                part[rng.randrange(len(part))] = rng.randrange(256)
            else:
                part = part[:rng.randrange(len(part) + 1)] + rng.randbytes(rng.randrange(9))
            parts[i] = bytes(part)
        return parts if rng.random() < .95 else parts + [b""] * rng.randrange(1, 9)

    def test_noise_from_one_with_all_roles(self):
        rng = random.Random(harness.SEED)
        public, secret, coordinator = curve.keys_of(self.cluster.key)
        rounds = 200 if harness.FULL else 6
        for i, (port, server) in enumerate(self.doors):
            address = f"node/{i - 1}" if i else "coordinator"
            for plane in (port, port + 1):
                for _ in range(rounds):
                    with curve.Caller(plane, (public, secret), server) as caller:
                        caller.socket.settimeout(60)
                        for _ in range(100):
                            parts = self.noisy(rng, address)
                            for k, part in enumerate(parts):
                                caller.send_frame(0, caller.message(part, k + 1 < len(parts)))
                        self.answers(caller, address)
        self.all_are_quiet_and_well()

    def answers(self, caller, address):
        """After all that was sent before it, the service takes a request in, and answers."""
        method = 68 if address == "coordinator" else 5  # GetMap, NodeStatus
        self.assertEqual(0, curve.ask(caller, curve.request(method, address, b""))[0])

    def test_what_a_fuzzer_found(self):
        """The corpus of tests/fuzz, from one who may store and read, and as bytes from a stranger."""
        key = os.path.join(self.cluster.base, "player")
        self.cluster.run("key", "new-principal", "--roles", "ingest,reader", "--name", "player",
                         "--out", key)
        self.cluster.wait_until_well()
        public, secret, _ = curve.keys_of(key)
        with open(os.path.join(harness.ROOT, "tests/fuzz/corpus.b64"), encoding="ascii") as file:
            corpus = [base64.b64decode(line) for line in file]
        self.assertGreater(len(corpus), 100)
        inputs = {i: [] for i in range(len(self.doors))}
        for some in corpus:
            to, parts = curve.of_any_bytes(some)
            inputs[to % len(self.doors)].append(parts)
        for i, (port, server) in enumerate(self.doors):
            for plane in (port, port + 1):
                with curve.Caller(plane, (public, secret), server) as caller:
                    caller.socket.settimeout(60)
                    for parts in inputs[i]:
                        for k, part in enumerate(parts):
                            caller.send_frame(0, caller.message(part, k + 1 < len(parts)))
                    self.answers(caller, f"node/{i - 1}" if i else "coordinator")
                for some in corpus:
                    with socket.create_connection(("127.0.0.1", plane), timeout=15) as stranger:
                        with contextlib.suppress(OSError):
                            stranger.sendall(some)
        self.all_are_quiet_and_well()

    def all_are_quiet_and_well(self):
        for daemon in [self.cluster.coordinator, *self.cluster.daemons]:
            self.assertTrue(daemon.runs, daemon.said()[-2000:])
            self.assertLess(len(daemon.said()), 64 << 10)
            self.assertLess(daemon.peak_rss_bytes(), 512 * MIB)
        self.everything_is_there()
        for daemon in [self.cluster.coordinator, *self.cluster.daemons]:
            self.assertTrue(daemon.runs, daemon.said()[-2000:])

    @staticmethod
    def virtual_bytes(daemon):
        with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmPeak")) * 1024


if __name__ == "__main__":
    harness.main()
