#!/usr/bin/env python3
"""Networks that break without telling: cut, half open, trickling. Real processes, network namespaces.

Whatever is cut: nothing that comes back is wrong, nobody waits longer than a request may take, and
once it is healed all copies are there again without a manual step.
"""

import os
import signal
import subprocess
import time
import unittest

import harness
from cluster import Cluster
from harness import FAILED, FULL, INTEGRITY, OK, SOME_FAILED
from network import Network

OUT_AFTER = 10     # Seconds until a node that is away is taken out.
# A request ends within 30 s. A command makes a few, of which one or two meet the silent peer.
LONGEST = 45
LONG = "waits for many seconds"


class PartitionTest(harness.HoldfastTest):

    def setUp(self):
        super().setUp()
        self.network = Network(self)
        self.source = self.path("source")
        harness.make_media_tree(self.source, harness.SEED, files=60, mean=60_000)
        self.more = self.path("more")
        harness.make_media_tree(self.more, harness.SEED + 1, files=60, mean=60_000)

    def cluster(self, nodes, **kwargs):
        self.cluster = Cluster(self, self.path("cluster"), nodes=nodes, out_after=OUT_AFTER,
                               network=self.network, **kwargs)
        self.cluster.ingest(self.source)
        return self.cluster

    def restored_is(self, source, to, what="c"):
        result = self.cluster.restore(self.path(to), what=what, timeout=240)
        name = os.path.basename(source)
        subprocess.run(["diff", "-r", source, self.path(to, name)], check=True)
        return result

    def in_time(self, *args, expect=OK):
        result = self.cluster.run(*args, expect=expect, timeout=120)
        self.assertLess(result.seconds, LONGEST, str(result))
        return result

    def start_long_ingest(self):
        """Of `more`, with a file in it that takes seconds."""
        with open(os.path.join(self.more, "zeros"), "wb") as file:
            file.truncate(3 << 30)
        with open(self.path("log"), "wb") as out:
            client = subprocess.Popen(self.cluster.args("ingest", self.more, "--to", "more", "--json",
                                                        "--quiet"), stdout=out, stderr=out)
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        return client

    def whole_again(self, seconds=120):
        """All copies there, all nodes answering; and every copy is good."""
        deadline = time.monotonic() + seconds
        while True:
            result = self.cluster.run("status", "--json", expect=None)
            state = result.json[-1].get("cluster") if result.out else None
            if (state and state["known"] and state["missing"] == 0
                    and all(node["state"] == "in" and node["answers"] for node in state["nodes"])):
                break
            self.assertLess(time.monotonic(), deadline, f"not whole in {seconds} s: {result}")
            time.sleep(0.5)
        self.cluster.verify()

    def test_client_and_a_node(self):
        cluster = self.cluster(nodes=3)
        self.network.cut(["client"], ["node-1"])
        self.in_time("ls", "c")
        self.in_time("status", expect=INTEGRITY)  # It asks the node itself.
        for name in cluster.ls()[-3:]:
            self.in_time("cat", b"c/" + name)
        self.restored_is(self.source, "cut")
        result = cluster.ingest(self.more, to="more", timeout=240)
        self.assertEqual(0, result.summary["errors"])
        self.restored_is(self.more, "cut-more", what="more")
        self.network.heal(["client"], ["node-1"])
        self.whole_again()

    @unittest.skipUnless(FULL, LONG)
    def test_coordinator_and_a_node(self):
        cluster = self.cluster(nodes=3)
        self.network.cut(["coordinator"], ["node-1"])
        self.in_time("ls", "c")
        self.in_time("status", expect={OK, INTEGRITY})
        self.restored_is(self.source, "cut")
        result = cluster.ingest(self.more, to="more", timeout=240)
        self.assertEqual(0, result.summary["errors"])
        self.network.heal(["coordinator"], ["node-1"])
        self.whole_again()
        self.restored_is(self.more, "healed", what="more")

    def test_two_groups_of_nodes(self):
        """Two nodes alone are no quorum of what they hold: until they are out, ingests wait."""
        cluster = self.cluster(nodes=5)
        ours, theirs = ["client", "coordinator", "node-0", "node-1", "node-2"], ["node-3", "node-4"]
        self.network.cut(ours, theirs)
        result = cluster.ingest(self.more, to="more", timeout=240)
        self.assertEqual(0, result.summary["errors"])
        self.restored_is(self.source, "cut")
        self.network.heal(ours, theirs)
        self.whole_again()
        self.restored_is(self.more, "healed", what="more")

    @unittest.skipUnless(FULL, LONG)
    def test_half_open(self):
        """The client is gone and its connections are not: nobody was told. It comes again."""
        cluster = self.cluster(nodes=3)
        client = self.start_long_ingest()
        time.sleep(0.5)
        self.assertIsNone(client.poll(), "it was over too soon")
        everybody = ["coordinator", "node-0", "node-1", "node-2"]
        self.network.cut(["client"], everybody)
        client.send_signal(signal.SIGKILL)
        client.wait()
        self.network.heal(["client"], everybody)
        result = cluster.ingest(self.more, to="more", timeout=120)
        self.assertLess(result.seconds, LONGEST)
        self.restored_is(self.more, "again", what="more")
        self.whole_again()

    def test_a_trickling_node(self):
        """One that answers, a few bytes at a time, is not waited for where others have it."""
        cluster = self.cluster(nodes=3)
        self.network.slow("node-1", 20_000)
        for name in [n for n in cluster.ls() if n.endswith(b".jpg")][:3]:
            self.in_time("cat", b"c/" + name)
        # It waits for a slow answer once, and then asks others: not once a batch or a chunk.
        self.assertLess(self.restored_is(self.source, "slow").seconds, 2 * LONGEST)
        result = cluster.ingest(self.more, to="more", timeout=240)
        self.assertEqual(0, result.summary["errors"])
        self.network.fast("node-1")
        self.whole_again()

    @unittest.skipUnless(FULL, LONG)
    def test_the_coordinator_is_cut_off(self):
        """Commands end with one line; an ingest waits, and goes on when it is there again."""
        cluster = self.cluster(nodes=3)
        self.network.cut(["client"], ["coordinator"])
        for verb in (["ls", "c"], ["status"]):
            result = self.in_time(*verb, expect={FAILED, SOME_FAILED})
            self.assertEqual(1, len(result.error_lines), str(result))
        self.network.heal(["client"], ["coordinator"])
        client = self.start_long_ingest()
        time.sleep(0.5)
        self.assertIsNone(client.poll(), "it was over too soon")
        self.network.cut(["client"], ["coordinator"])
        time.sleep(40)
        self.network.heal(["client"], ["coordinator"])
        self.assertEqual(OK, client.wait(timeout=120))
        self.restored_is(self.more, "after", what="more")


if __name__ == "__main__":
    harness.main()
