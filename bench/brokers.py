"""Kafka clusters of the bench's own: so many KRaft nodes on this machine, each broker and controller. A folder and ports go in, addresses come out."""
import os
import pathlib
import subprocess
import sys
import tempfile

from machine import ROOT, Failed, Program, cpu_seconds, free_port

HEAP_MIB = 256
CLUSTER_ID = "ZmVlZG1pbGwtYmVuY2gtMQ"
LOGGING = """log4j.rootLogger=INFO, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=[%d] %p %m (%c)%n
"""


def jars():
    """Where ./dev put Kafka."""
    found = sorted((pathlib.Path(sys.prefix).parent / "download").glob("kafka-*")) or sorted((ROOT / ".stack/download").glob("kafka-*"))
    if not found:
        raise Failed("Kafka is not there: ./dev up --no-programs brings it")
    return found[-1]


def settings(node, ports, folder):
    """Every topic on up to three nodes; a record is acknowledged when all but one of them have it."""
    replication = min(len(ports), 3)
    voters = ",".join(f"{i}@127.0.0.1:{controller}" for i, (_, controller) in enumerate(ports, 1))
    broker, controller = ports[node - 1]
    lines = {
        "node.id": node, "process.roles": "broker,controller", "controller.listener.names": "CONTROLLER", "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}", "log.dirs": folder / "data",
        "auto.create.topics.enable": "false", "num.partitions": 8, "default.replication.factor": replication,
        "min.insync.replicas": max(1, replication - 1), "offsets.topic.num.partitions": 8, "offsets.topic.replication.factor": replication,
        "transaction.state.log.num.partitions": 8, "transaction.state.log.replication.factor": replication,
        "transaction.state.log.min.isr": max(1, replication - 1), "group.initial.rebalance.delay.ms": 0, "log.cleaner.dedupe.buffer.size": 16777216,
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items())


class Brokers:
    """`with` starts them and stops them; their data is gone after."""

    def __init__(self, count):
        self.count, self.nodes = count, []
        self.ports = [(free_port(), free_port()) for _ in range(count)]
        self.addresses = ",".join(f"127.0.0.1:{broker}" for broker, _ in self.ports)

    def java(self, folder):
        return ["java", "-cp", f"{jars()}/*", f"-Xmx{HEAP_MIB}m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:-UsePerfData", "-Djava.awt.headless=true",
                f"-Djava.io.tmpdir={folder}", f"-Dlog4j.configuration=file:{folder}/log4j.properties"]

    def start(self, node):
        folder = pathlib.Path(self.scratch.name) / str(node)
        folder.mkdir()
        (folder / "log4j.properties").write_text(LOGGING)
        (folder / "server.properties").write_text(settings(node, self.ports, folder))
        done = subprocess.run([*self.java(folder), "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", folder / "server.properties"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise Failed(f"Kafka could not format {folder}: {done.stdout}{done.stderr}")
        self.nodes.append(Program([*self.java(folder), "kafka.Kafka", folder / "server.properties"], env={"LANG": os.environ.get("LANG", "C.UTF-8")}))

    def __enter__(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="feedmill-bench-kafka-")
        try:
            for node in range(1, self.count + 1):
                self.start(node)
            for node in self.nodes:
                node.wait_output("Kafka Server started", 120)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error):
        for node in self.nodes:
            node.popen.terminate()
        for node in self.nodes:
            node.stop()
        self.scratch.cleanup()

    def cpu_seconds(self):
        return cpu_seconds([node.pid for node in self.nodes])
