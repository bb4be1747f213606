"""Fixtures: `cluster` is a RabbitMQ virtual host, a database and job workers of a test file's own; clients are unmodified Celery."""
import collections
import contextlib
import pathlib
import sys
import urllib.parse
import uuid

import celery
import pika
import pymysql
import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from feedmill import Feedmill, Worker, server, wait_for  # noqa: E402


Published = collections.namedtuple("Published", "exchange key properties headers body")


class Cluster(Feedmill):
    """Workers of this project, their settings, and clients of theirs."""

    def __init__(self, folder, **settings):
        self.vhost = "interop-" + uuid.uuid4().hex[:10]
        self.management = server("RABBITMQ_MANAGEMENT")
        url = urllib.parse.urlsplit(server("AMQP_URL"))
        self.api("PUT", f"vhosts/{self.vhost}")
        self.api("PUT", f"permissions/{self.vhost}/{url.username}", {"configure": ".*", "write": ".*", "read": ".*"})
        self.url = f"amqp://{url.netloc}/{self.vhost}"
        super().__init__(folder, **{"amqp.url": self.url, "job.mingle": False, "job.retry_first_ms": 10, **settings})

    # ---- workers

    def job(self, wait=True, env=None, under=(), **settings):
        """A job worker with settings of its own: concurrency=2 is job.concurrency. `under`: a command that runs it."""
        number = len(self.processes)
        changes = {(name if "." in name else "job." + name): value for name, value in settings.items()}
        changes.setdefault("job.node", f"feed{number}@test")
        config = self.write_config(self.folder / f"{self.name}-job{number}.cfg", **changes)
        worker = self.worker("job", config=config, env=env, wait=wait, under=under)
        worker.node = changes["job.node"]
        return worker

    def stop_workers(self):
        for process in self.processes:
            process.ask_to_stop()
        for process in self.processes:
            process.stop()

    def make_database(self):
        self.sql(f"CREATE DATABASE IF NOT EXISTS {self.database}")
        return f"db+mysql+pymysql://{server('MYSQL_USER')}:{server('MYSQL_PASSWORD')}@{server('MYSQL_HOST')}:{server('MYSQL_PORT')}/{self.database}"

    # ---- clients

    def app(self, backend="rpc://", **conf):
        app = celery.Celery("interop", broker=self.url, backend=backend, set_as_current=False)
        app.conf.update(broker_connection_retry_on_startup=True, **conf)
        return app

    @contextlib.contextmanager
    def channel(self):
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.url))) as connection:
            yield connection.channel()

    def publish(self, body, queue="celery", headers=None, **properties):
        """A message as nobody's client would send it."""
        properties = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
        with self.channel() as channel:
            channel.basic_publish("", queue, body if isinstance(body, bytes) else body.encode(), pika.BasicProperties(headers=headers, **properties))

    # ---- RabbitMQ

    def api(self, method, path, body=None):
        answer = requests.request(method, f"{self.management}/api/{path}", json=body, timeout=30)
        if answer.status_code >= 400 and not (method == "DELETE" and answer.status_code == 404):
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    @contextlib.contextmanager
    def traced(self):
        """RabbitMQ's own trace of this virtual host, for workers that start later: a function that gives all that was published so far."""
        self.api("PUT", f"vhosts/{self.vhost}", {"tracing": True})
        with self.channel() as channel:
            queue, seen = channel.queue_declare("", exclusive=True).method.queue, []
            channel.queue_bind(queue, "amq.rabbitmq.trace", "publish.#")

            def published():
                while (got := channel.basic_get(queue, auto_ack=True))[0]:
                    told = got[1].headers
                    seen.append(Published(told["exchange_name"], told["routing_keys"][0], told["properties"], told["properties"].get("headers") or {}, got[2]))
                return seen
            yield published

    def count(self, queue):
        """Messages that are ready."""
        with self.channel() as channel:
            return channel.queue_declare(queue, passive=True).method.message_count

    def dead(self, count, seconds=20):
        """So many messages of the dead letters, taken."""
        got = []
        with self.channel() as channel:
            def one():
                method, properties, body = channel.basic_get("feed.jobs.dead", auto_ack=True)
                if method:
                    got.append((properties, body))
                return len(got) >= count
            wait_for(one, f"{count} dead letters; {len(got)} so far", seconds)
        return got

    def connections(self, purpose):
        """Names of the workers' connections for that purpose, as the management API knows them."""
        return [c["name"] for c in self.api("GET", f"vhosts/{self.vhost}/connections")
                if c.get("client_properties", {}).get("connection_name") == purpose]

    def drop(self):
        with contextlib.suppress(pymysql.Error):
            self.sql(f"DROP DATABASE IF EXISTS {self.database}")
        self.api("DELETE", f"vhosts/{self.vhost}")


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("interop")


@pytest.fixture(scope="module")
def cluster(module_folder):
    cluster = Cluster(module_folder)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def make_cluster(tmp_path):
    made = []

    def make(**settings):
        made.append(Cluster(tmp_path, **settings))
        return made[-1]
    yield make
    for cluster in made:
        cluster.stop()


@pytest.fixture(scope="module")
def worker(cluster):
    """One that all tests of a file share: children, results by rpc."""
    return cluster.job()


@pytest.fixture(scope="module")
def app(cluster, worker):
    return cluster.app()


@pytest.fixture
def send(app):
    """send(name, *args, **options): the result, waited for."""
    def send(name, *args, timeout=30, kwargs=None, **options):
        return app.send_task(name, args, kwargs or {}, **options).get(timeout=timeout)
    return send
