"""Groups of Kafka's clients, under every protocol that each has, whose coordinator is killed: what was committed stays, no
partition ever has two owners, and members go on by themselves."""

import contextlib
import os
import threading
import time

import harness
from cluster.nodes import HEAL_TIMEOUT_S, NODES, Cluster
from go import suite as go
from harness import CACHE, HERE, Failed, Suite, kill_switch
from java import suite as java
from node import suite as node
from python import suite as python
from rdkafka import suite as rdkafka

OFFSETS_TOPIC = "__consumer_offsets"
SETTINGS = {
    **harness.SETTINGS,
    # One partition, whose leader coordinates every group.
    "offsets.topic.num.partitions": "1",
}
# How long a node stays away: members and their next coordinator go on without it.
AWAY_S = 5
# A part of the claim that each client's checks of groups make for a broker that is killed.
CLAIM = "killed"


def prepare():
    for suite in (go, java, node, python, rdkafka):
        suite.prepare()


class Coordinator:
    """The node that coordinates all groups, whichever that is."""

    def __init__(self, cluster):
        self.cluster, self.comes_back = cluster, None

    def crash(self):
        """Kills it once all nodes are well; it comes back a while later."""
        self.settle()
        victim = self.leader_other_than(None)
        self.cluster.nodes[victim].kill()
        self.comes_back = threading.Timer(AWAY_S, self.cluster.start_again, [victim])
        self.comes_back.start()
        self.leader_other_than(victim)

    def leader_other_than(self, victim):
        """Asks until another node leads. One answer may come late, or from a node that lacks the topic still."""
        deadline = time.monotonic() + HEAL_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(Failed, KeyError, IndexError):
                leader = self.cluster.leaders(OFFSETS_TOPIC)[0]
                if leader in NODES and leader != victim:
                    return leader
        raise Failed(f"{OFFSETS_TOPIC} is led by no node but {victim} after {HEAL_TIMEOUT_S} s")

    def settle(self):
        if self.comes_back:
            self.comes_back.join()
        self.cluster.wait_until_well()


def check_all(table, binary, run_id, folder):
    with Cluster(binary, folder, SETTINGS).running() as cluster:
        coordinator = Coordinator(cluster)
        with kill_switch(coordinator.crash), only(CLAIM):
            for client, command, environment in programs(cluster.bootstrap, run_id):
                Suite(table, f"{client}, 3 nodes", cluster.bootstrap).program(command, env={**os.environ, **environment})
            rdkafka.check(table, cluster.bootstrap, "groups", "librdkafka, 3 nodes", CLAIM)
        coordinator.settle()


def programs(bootstrap, run_id):
    interpreter = os.path.join(CACHE, "python", "bin", "python")
    modules = {"NODE_PATH": os.path.join(CACHE, "node", "node_modules")}
    yield "java", java.java("Groups", bootstrap, run_id), {}
    yield "kafka-python", [interpreter, "-B", os.path.join(HERE, "python", "groups.py"), bootstrap, run_id], {}
    yield "franz-go", [os.path.join(CACHE, "go", "checks"), bootstrap, run_id], {}
    yield "kafkajs", ["node", os.path.join(HERE, "node", "groups.js"), bootstrap, run_id], modules


@contextlib.contextmanager
def only(claims):
    os.environ["CHRONIK_COMPAT_ONLY"] = claims
    try:
        yield
    finally:
        del os.environ["CHRONIK_COMPAT_ONLY"]
