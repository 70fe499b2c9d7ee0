"""Machines on a network of their own, which can be cut and slowed: network namespaces on one bridge."""

import secrets
import subprocess
import unittest


# What a kernel or a container that cannot do this says.
NOT_HERE = ("permitted", "denied", "not supported", "nknown device type", "qdisc kind is unknown")


def _ip(*args):
    subprocess.run(["ip", *args], check=True, capture_output=True, text=True)


class Network:
    """Namespaces by name, each with an address. Needs root; skips the test where that is not enough."""

    def __init__(self, test):
        self.prefix = f"hf{secrets.token_hex(3)}"
        self.hosts = {}
        test.addCleanup(self.remove)
        try:
            _ip("netns", "add", self.namespace("hub"))
            self._in("hub", "ip", "link", "add", "hub", "type", "bridge")
            self._in("hub", "ip", "link", "set", "hub", "up")
            self.add("probe")
            self.slow("probe", 1_000_000)
        except OSError as error:
            raise unittest.SkipTest(f"no network namespaces here: {error}") from error
        except subprocess.CalledProcessError as error:
            if not any(word in error.stderr for word in NOT_HERE):
                raise
            raise unittest.SkipTest(f"no network namespaces here: {error.stderr}") from error

    def namespace(self, name):
        return f"{self.prefix}-{name}"

    def enter(self, name):
        """What a command begins with that is to run there."""
        return ["ip", "netns", "exec", self.namespace(name)]

    def _in(self, name, *command):
        subprocess.run([*self.enter(name), *command], check=True, capture_output=True, text=True)

    def add(self, name):
        """A machine; its address."""
        number = len(self.hosts) + 1
        address = f"10.77.0.{number}"
        self.hosts[name] = address
        _ip("netns", "add", self.namespace(name))
        self._in(name, "ip", "link", "set", "lo", "up")
        self._in(name, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", f"port{number}",
                 "netns", self.namespace("hub"))
        self._in("hub", "ip", "link", "set", f"port{number}", "master", "hub", "up")
        self._in(name, "ip", "address", "add", f"{address}/24", "dev", "eth0")
        self._in(name, "ip", "link", "set", "eth0", "up")
        return address

    def _pairs(self, some, others):
        return [pair for a in some for b in others for pair in ((a, b), (b, a))]

    def cut(self, some, others):
        """Nothing passes between these and those any more, and neither is told."""
        for a, b in self._pairs(some, others):  # What is sent goes to a card that nobody has.
            self._in(a, "ip", "neigh", "replace", self.hosts[b], "lladdr", "02:00:00:00:00:01",
                     "dev", "eth0", "nud", "permanent")

    def heal(self, some, others):
        for a, b in self._pairs(some, others):
            self._in(a, "ip", "neigh", "del", self.hosts[b], "dev", "eth0")

    def slow(self, name, bits_per_second):
        """What the machine sends trickles."""
        self._in(name, "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate",
                 f"{bits_per_second}bit", "burst", "1600", "limit", "30000")

    def fast(self, name):
        self._in(name, "tc", "qdisc", "del", "dev", "eth0", "root")

    def remove(self):
        for name in [*self.hosts, "hub"]:
            subprocess.run(["ip", "netns", "del", self.namespace(name)], check=False,
                           capture_output=True)
