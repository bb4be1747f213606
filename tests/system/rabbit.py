"""RabbitMQ for tests: a virtual host of a test's own on the shared server, or a whole server that a test may break."""
import contextlib
import logging
import os
import pathlib
import random
import shutil
import socket
import subprocess
import uuid
from urllib.parse import quote

import pika
import requests

from feedmill import ROOT, Process, server, wait_for


logging.getLogger("pika").setLevel(logging.CRITICAL)  # it tells each refused connection at length


class VirtualHost:
    """On the shared server; `with` removes it and all that is in it."""

    def __init__(self):
        self.name = "t" + uuid.uuid4().hex[:10]
        self.url = f"{server('AMQP_URL')}/{self.name}"
        self.management = server("RABBITMQ_MANAGEMENT")

    def __enter__(self):
        requests.put(f"{self.management}/api/vhosts/{self.name}", timeout=30).raise_for_status()
        return self

    def __exit__(self, *_):
        requests.delete(f"{self.management}/api/vhosts/{self.name}", timeout=30).raise_for_status()

    def connect(self):
        return pika.BlockingConnection(pika.URLParameters(self.url))


class Subscriber:
    """A queue that is bound to the exchange, and what came to it, in order."""

    def __init__(self, url, key="#", exchange="product_events", queue=None):
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.channel.exchange_declare(exchange, "topic", durable=True)
        self.queue = self.channel.queue_declare(queue or "", exclusive=queue is None, durable=queue is not None).method.queue
        self.channel.queue_bind(self.queue, exchange, key)
        self.messages = []

    def take(self):
        while True:
            method, properties, body = self.channel.basic_get(self.queue, auto_ack=True)
            if method is None:
                return self.messages
            self.messages.append((method, properties, body))

    def ids(self):
        return [properties.message_id for _, properties, _ in self.take()]

    def close(self):
        with contextlib.suppress(pika.exceptions.AMQPError):
            self.connection.close()


def free_port():
    """Not one of those that the kernel gives to connections: nobody has it when a server that was killed starts again."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.randrange(10000, 20000)))
            return probe.getsockname()[1]


class Rabbit:
    """A server of a test's own, on ports of its own, with an epmd of its own. Stopped by process id."""

    def __init__(self, folder, tls=None):
        """`tls`: the files of a CA, a certificate and its key: it listens for TLS too, at tls_url."""
        self.folder = pathlib.Path(folder) / ("rabbit-" + uuid.uuid4().hex[:8])
        self.folder.mkdir()
        self.scripts = pathlib.Path(server("RABBITMQ_SCRIPTS"))
        self.port, self.epmd_port = free_port(), free_port()
        self.url = f"amqp://feed:feed@127.0.0.1:{self.port}"
        self.tls_port = free_port()
        self.tls_url = f"amqps://feed:feed@localhost:{self.tls_port}"
        listener = "" if tls is None else (
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\nssl_options.cacertfile = {tls[0]}\nssl_options.certfile = {tls[1]}\n"
            f"ssl_options.keyfile = {tls[2]}\nssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n")
        (self.folder / "rabbitmq.conf").write_text(listener +
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndefault_user = feed\ndefault_pass = feed\nlog.console = true\nlog.file = false\n")
        (self.folder / "enabled_plugins").write_text("[].")
        self.env = {
            "HOME": str(self.folder), "ERL_CRASH_DUMP": str(self.folder / "erl_crash.dump"), "ERL_EPMD_PORT": str(self.epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_AFLAGS": "-kernel inet_dist_use_interface {127,0,0,1}", "RABBITMQ_NODENAME": f"{self.folder.name}@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"), "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"), "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder), "RABBITMQ_LOGS": "-", "LC_ALL": "C.UTF-8", "detached": "yes"}
        self.epmd = Process("epmd", ["epmd", "-address", "127.0.0.1", "-port", str(self.epmd_port)], self.folder / "epmd.log", self.env)
        self.process = None

    def start(self):
        wait_for(lambda: subprocess.run(["epmd", "-names"], env={**os.environ, **self.env}, capture_output=True).returncode == 0, "epmd")
        while True:
            self.env["RABBITMQ_DIST_PORT"] = str(free_port())     # somebody's connection may have the last one meanwhile
            self.process = Process("rabbitmq", [str(self.scripts / "rabbitmq-server")], self.folder / "rabbitmq.log", self.env)
            try:
                self.wait_up()
                return self
            except AssertionError:
                if self.process.running() or "dist_port_already_used" not in self.process.output():
                    raise

    def wait_up(self):
        def up():
            assert self.process.running(), self.process.output()[-3000:]
            with contextlib.suppress(pika.exceptions.AMQPError, OSError):
                self.connect().close()
                return True
        wait_for(up, "RabbitMQ answers", 120, every=0.2)

    def connect(self):
        return pika.BlockingConnection(pika.URLParameters(self.url + "?connection_attempts=1&socket_timeout=5"))

    def ctl(self, *words):
        done = subprocess.run([self.scripts / "rabbitmqctl", "-q", *words], env={**os.environ, **self.env}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def keep_bindings(self):
        """A server that is killed some seconds after it answered "bound" may have forgotten it (3.10: seen in 2 of 30 kills): onto the disk."""
        self.ctl("eval", "mnesia:dump_log().")
        assert any(b"queue" in path.read_bytes() for path in self.folder.glob("data/*/rabbit_durable_route.DC*")), "in the table's files"

    def kill(self):
        self.process.kill()

    def forget(self):
        """All that it had, after it was killed: it starts as a new one."""
        shutil.rmtree(self.folder / "data")

    def stop(self):
        for process in (self.process, self.epmd):
            if process is not None and process.running():
                process.ask_to_stop()
                try:
                    process.popen.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
