"""A cluster of real processes on loopback, for one test."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time

import harness
from harness import BINARY


def free_ports(count=2):
    """The first of `count` ports that are free, below those the system gives to connections."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(15000, 32000)
        with contextlib.ExitStack() as sockets:
            try:
                for i in range(count):
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", port + i))
                return port
            except OSError:
                continue
    raise AssertionError(f"no {count} free ports side by side")


class Daemon:
    """One `serve`, which may be stopped and started again."""

    def __init__(self, what, config, log, enter=(), env=None):
        self.what, self.config, self.log, self.enter, self.env = what, config, log, enter, env
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            begin = log.tell()
            self.process = subprocess.Popen(
                [*self.enter, BINARY, self.what, "serve", "--config", self.config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        deadline = time.monotonic() + 30
        while b"listening on" not in self.said(begin):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.config} does not serve: {self.said(begin)!r}")
            time.sleep(0.02)

    def said(self, begin=0):
        with open(self.log, "rb") as log:
            log.seek(begin)
            return log.read()

    def kill(self, sig=signal.SIGKILL):
        """Ends it; its exit code."""
        self.process.send_signal(sig)
        return self.process.wait(timeout=60)

    @property
    def runs(self):
        return self.process is not None and self.process.poll() is None

    @property
    def stopped(self):
        """By SIGSTOP."""
        with open(f"/proc/{self.process.pid}/stat", "rb") as file:
            return file.read().rsplit(b")", 1)[1].split()[0] == b"T"

    def peak_rss_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")


class Cluster(harness.Vault):
    """A coordinator and nodes, each a process. A vault like any, named by its endpoint.

    With a Network, "coordinator", "node-0" … and "client" are machines of it. env_of says with which
    environment one of them runs, but for "client".
    """

    def __init__(self, test, directory, nodes=3, replicas=3, out_after=600, network=None,
                 sites=(), site_of=lambda i: "site", env_of=lambda what: None):
        super().__init__(test, directory, make=False)
        self.base, self.network, self.site_of, self.env_of = directory, network, site_of, env_of
        os.makedirs(directory, exist_ok=True)
        if network:
            network.add("client")
        self.dir = self.endpoint("coordinator")  # What --vault gets.
        home = os.path.join(directory, "coordinator")
        self.run("cluster", "init", home, "--listen", self.dir, "--replicas", str(replicas),
                 *(["--sites", ",".join(sites)] if sites else []), vault=False)
        config = os.path.join(home, "coordinator.toml")
        with open(config, encoding="utf-8") as file:
            text = file.read().replace("out_after_seconds = 600", f"out_after_seconds = {out_after}")
        with open(config, "w", encoding="utf-8") as file:
            file.write(text)
        self.coordinator = Daemon("coordinator", os.path.join(home, "coordinator.toml"),
                                  os.path.join(directory, "coordinator.log"),
                                  self.enter("coordinator"), env_of("coordinator"))
        test.addCleanup(self.stop)
        self.daemons = []
        self.coordinator.start()
        for i in range(nodes):
            self.join(i)
        self.wait_until_well()

    def endpoint(self, machine):
        port = free_ports()
        return f"tcp://{self.network.add(machine) if self.network else '127.0.0.1'}:{port}"

    def enter(self, machine):
        return self.network.enter(machine) if self.network else []

    def args(self, *args, **kwargs):
        return [*self.enter("client"), *super().args(*args, **kwargs)]

    def join(self, i):
        home = os.path.join(self.base, f"node-{i}")
        self.run("cluster", "join", home, "--listen", self.endpoint(f"node-{i}"),
                 "--weight", "1", "--place", f"{self.site_of(i)}/rack/host-{i}")
        node = Daemon("node", os.path.join(home, "node.toml"),
                      os.path.join(self.base, f"node-{i}.log"), self.enter(f"node-{i}"),
                      self.env_of(f"node-{i}"))
        self.daemons.append(node)
        node.start()

    @property
    def node_dirs(self):
        return [os.path.join(self.base, f"node-{i}", "node") for i in range(len(self.daemons))]

    def wait_until_well(self, seconds=120):
        deadline = time.monotonic() + seconds
        while True:
            result = self.run("status", "--json", expect=None)
            if result.code == harness.OK:
                return
            if time.monotonic() > deadline:
                self.test.fail(f"not well within {seconds} s\n{result}")
            time.sleep(0.2)

    def stop(self, sig=signal.SIGKILL):
        for daemon in [*self.daemons, self.coordinator]:
            if daemon.runs:
                daemon.kill(sig)
