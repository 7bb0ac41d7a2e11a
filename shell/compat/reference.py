"""Apache Kafka itself, from the jars of the java suite: what every check is held against before Chronik is."""

import contextlib
import os
import tempfile

import harness
from java import suite as java

# A broker that was killed is let in again when its session is over. One node with the internal topics that one node can have; `listeners` and what else differs is added.
PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
broker.heartbeat.interval.ms=200
broker.session.timeout.ms=1000
log.initial.task.delay.ms=0
"""

PLAIN = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
"""


@contextlib.contextmanager
def kafka(listeners=PLAIN, **ports):
    """Apache Kafka, running alone with a data folder of its own; `port` is the one waited for, `controller` another."""
    java.prepare()
    ports = {"port": harness.free_port(), "controller": harness.free_port(), **ports}
    settings = "\n".join(f"{name}={value}" for name, value in harness.SETTINGS.items())
    with tempfile.TemporaryDirectory(prefix="kafka-", ignore_cleanup_errors=True) as home:
        config = os.path.join(home, "server.properties")
        with open(config, "w") as file:
            file.write((PROPERTIES + listeners).format(data=os.path.join(home, "data"), **ports) + settings)
        cluster = harness.must(java.java("kafka.tools.StorageTool", "random-uuid")).split()[-1]
        harness.must(java.java("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", config))
        log_path = os.path.join(harness.CACHE, "kafka.log")
        with harness.Broker(java.java("kafka.Kafka", config), ports["port"], log_path).running() as broker:
            yield broker
