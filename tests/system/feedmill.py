"""One Feedmill of a test's own: its database, index and topic prefix on the shared servers, its processes, its clients.
embedded.py has the same without servers.

Processes are started from build/ (or $FEED_TEST_BUILD), log into a folder of the test run, and are stopped by process id.
Nothing here waits for a fixed time: wait_for() asks until the answer is there or the deadline has passed.
"""
import contextlib
import itertools
import os
import pathlib
import re
import signal
import subprocess
import time
import uuid

import confluent_kafka
import confluent_kafka.admin
import pymysql
import pytest
import requests

import conformance

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FEED_TEST_BUILD", ROOT / "build"))
STACK = os.environ.get("FEED_TEST_STACK", "servers")     # or "embedded": see --stack in conftest.py
START_SECONDS = float(os.environ.get("FEED_TEST_START_SECONDS", 40))


def wait_for(condition, what, seconds=30.0, every=0.02):
    """The first true value of condition(); fails the test, saying `what`, when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}; the last answer was {value!r}")
        time.sleep(every)


def server(name):
    """Where a server is. Whoever asks needs it: a test that does is left out where there is none."""
    value = os.environ.get(name)
    if STACK == "embedded":
        pytest.skip(f"needs a server: {name}")
    if not value:
        raise RuntimeError(f"{name} is not set: run ./dev test, or source .stack/env after ./dev up --no-programs")
    return value


processes = []  # all that were started


def alive_since(moment):
    """Those that run, or were started after it (of time.time())."""
    return [process for process in processes if process.running() or process.began >= moment]


def memory_kib(pid, what):
    """Of a process: Rss, Pss, or Anonymous, which is what it has for itself alone."""
    with open(f"/proc/{pid}/smaps_rollup") as rows:
        return next(int(row.split()[1]) for row in rows if row.startswith(what + ":"))


class Process:
    """A program that runs; its log is a file. `with` stops it."""

    def __init__(self, name, argv, log, env=None):
        self.name, self.log, self.asked = name, log, False
        self.started_at = log.stat().st_size if log.exists() else 0
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=ROOT,
                                          env={**os.environ, **(env or {})})
        self.pid = self.popen.pid
        self.began = time.time()
        processes.append(self)

    def output(self):
        with open(self.log, "rb") as lines:
            lines.seek(self.started_at)
            return lines.read().decode("utf-8", "replace")

    def logged(self, pattern):
        return re.search(pattern, self.output(), re.M)

    def running(self):
        return self.popen.poll() is None

    def wait_logged(self, pattern, seconds=START_SECONDS):
        def found():
            match = self.logged(pattern)
            if not match and not self.running():
                raise AssertionError(f"{self.name} ended with {self.popen.returncode}:\n{self.output()[-3000:]}")
            return match
        return wait_for(found, f"{self.name} logs {pattern}", seconds)

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        """kill -9, and gone."""
        self.popen.kill()
        self.popen.wait(30)

    def ask_to_stop(self):
        """SIGTERM, once: a second one leaves at once."""
        if self.running() and not self.asked:
            self.asked = True
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()

    def stop(self, seconds=40):
        """Asks it to stop; the exit code."""
        if self.running():
            self.ask_to_stop()
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait(30)
                raise AssertionError(f"{self.name} did not stop in {seconds} s:\n{self.output()[-3000:]}")
        return self.popen.returncode


class Gateway(Process):
    def ready_line(self):
        return self.wait_logged(r"event=listening .*\bport=(\d+) .*\badmin_port=(\d+)")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.ready_line()[1]}"

    @property
    def admin(self):
        return f"http://127.0.0.1:{self.ready_line()[2]}"

    def wait_ready(self):
        wait_for(lambda: requests.get(self.admin + "/readyz", timeout=5).status_code == 200, f"{self.name} is ready", START_SECONDS)
        return self


class Worker(Process):
    @property
    def admin(self):
        match = self.wait_logged(r"event=ready .*\badmin_port=(\d+)")
        return f"http://127.0.0.1:{match[1]}"

    def wait_ready(self):
        wait_for(lambda: requests.get(self.admin + "/readyz", timeout=5).status_code == 200, f"{self.name} is ready", START_SECONDS)
        return self


class Client:
    """HTTP to one gateway, as any client would; every answer must be one that the contract names."""

    def __init__(self, url):
        self.url = url
        self.http = requests.Session()

    def ask(self, method, path, body=None, **more):
        if body is not None:
            more["json"] = body
        answer = self.http.request(method, self.url + path, timeout=60, allow_redirects=False, **more)
        conformance.check(answer)
        return answer

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.ask("POST", path, body, **more)

    def delete(self, path, **more):
        return self.ask("DELETE", path, **more)

    def ok(self, method, path, body=None, **more):
        answer = self.ask(method, path, body, **more)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def participant(self, name="somebody"):
        return self.ok("POST", "/participant", {"name": name})["id"]

    def befriend(self, one, other):
        return self.ok("POST", f"/participant/{one}/friends", {"from": f"/participant/{one}", "to": f"/participant/{other}"})["id"]

    def say(self, author, story, subject="a subject", **more):
        return self.ok("POST", f"/participant/{author}/outbound", {"subject": subject, "story": story}, **more)["id"]

    def inbound(self, participant, **more):
        return self.ok("GET", f"/participant/{participant}/inbound", **more)

    def outbound(self, participant, **more):
        return self.ok("GET", f"/participant/{participant}/outbound", **more)

    def search(self, keywords):
        return self.ok("GET", "/outbound", params={"keywords": keywords})


class Feedmill:
    """Its own database, index and topics; gateways and workers as a test wants them."""

    queue = "kafka"     # as /readyz names it
    workers = ("command", "fanout", "chunk", "index")

    def __init__(self, folder, servers=None, build=BUILD, **settings):
        """`servers`: addresses that stand over those of the environment. `build`: where the programs are."""
        self.servers, self.build = servers or {}, build
        self.name = "t" + uuid.uuid4().hex[:10]
        self.folder = pathlib.Path(folder)
        self.prefix = self.name + "."
        self.database = "feedmill_test_" + self.name
        self.index = "feed-" + self.name
        self.processes = []
        self.numbers = itertools.count(1)
        self.settings = {
            **self.back_ends(),
            "gateway.listen": "127.0.0.1:0", "gateway.admin": "127.0.0.1:0", "worker.admin": "127.0.0.1:0",
            **settings,
        }
        self.config = self.folder / f"{self.name}.cfg"
        self.write_config()

    def server(self, name):
        return self.servers.get(name) or server(name)

    def back_ends(self):
        return {
            "kafka.brokers": self.server("KAFKA_BROKERS"), "kafka.topic_prefix": self.prefix, "kafka.partitions": 4,
            "mysql.host": self.server("MYSQL_HOST"), "mysql.port": int(self.server("MYSQL_PORT")), "mysql.user": self.server("MYSQL_USER"),
            "mysql.password": self.server("MYSQL_PASSWORD"), "mysql.database": self.database,
            "search.url": self.server("SEARCH_URL"), "search.index": self.index,
            "kafka.session_timeout_ms": 6000, "mysql.idle_transaction_s": 5,  # a killed worker's partitions lie still for a session; Kafka's minimum
        }

    def write_config(self, path=None, **changes):
        """The settings as a libconfig file."""
        def value(v):
            if isinstance(v, bool):
                return "true" if v else "false"
            return str(v) if isinstance(v, int) else '"' + str(v).replace("\\", "\\\\").replace('"', '\\"') + '"'
        groups = {}
        for name, v in {**self.settings, **changes}.items():
            group, _, key = name.rpartition(".")
            groups.setdefault(group, []).append(f"{key} = {value(v)};")
        text = "".join(f"{group}: {{ {' '.join(lines)} }};\n" if group else "\n".join(lines) + "\n" for group, lines in groups.items())
        path = path or self.config
        path.write_text(text)
        return path

    # ---- programs

    def ctl(self, *arguments, check=True, config=None, timeout=120, under=(), **more):
        done = subprocess.run([*under, self.build / "feedctl", "-c", config or self.config, *map(str, arguments)], cwd=ROOT, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout, **more)
        if check and done.returncode != 0:
            raise AssertionError(f"feedctl {arguments}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def prepare(self):
        self.ctl("migrate")
        self.ctl("topics")
        return self

    def _start(self, kind, name, *argv, config=None, env=None, before=()):
        number = next(self.numbers)
        process = kind(f"{name}-{number}", [*before, str(self.build / argv[0]), "-c", str(config or self.config), *argv[1:]],
                       self.folder / f"{self.name}-{number:02}-{name}.log", env)
        self.processes.append(process)
        return process

    def gateway(self, config=None, env=None, wait=True, descriptors=None, under=()):
        """`descriptors`: its limits, "soft:hard"; "soft:" leaves the hard one. `under`: a command that runs the program."""
        before = ("prlimit", f"--nofile={descriptors}") if descriptors else ()
        gateway = self._start(Gateway, "gateway", "feed-gateway", config=config, env=env, before=(*before, *under))
        return gateway.wait_ready() if wait else gateway

    def worker(self, name, config=None, env=None, wait=True, under=()):
        worker = self._start(Worker, name, "feed-worker", name, config=config, env=env, before=under)
        return worker.wait_ready() if wait else worker

    def start(self):
        """A gateway and one of each worker."""
        self.prepare()
        workers = [self.worker(name, wait=False) for name in self.workers]
        gateway = self.gateway()
        for worker in workers:
            worker.wait_ready()
        self.client = Client(gateway.url)
        return self

    def stop(self):
        """Stops all; what a stop must look like is checked on the way."""
        failed = []
        for process in self.processes:
            process.ask_to_stop()
        for process in self.processes:
            was_killed = process.popen.returncode is not None and process.popen.returncode < 0
            code = process.stop()
            if code not in (0, None) and not was_killed:
                failed.append(f"{process.name} ended with {code}:\n{process.output()[-2500:]}")
            if re.search(r"ERROR: \w+Sanitizer|runtime error:|WARNING: ThreadSanitizer", process.output()):
                failed.append(f"{process.name}: sanitizer:\n{process.output()[-6000:]}")
        self.drop()
        if failed:
            raise AssertionError("\n".join(failed))

    def drop(self):
        with contextlib.suppress(pymysql.Error):
            self.sql(f"DROP DATABASE IF EXISTS {self.database}")
        requests.delete(f"{self.server('SEARCH_URL')}/{self.index}", timeout=30)
        requests.delete(f"{self.server('SEARCH_URL')}/_index_template/feedmill-{self.index}", timeout=30)
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.server("KAFKA_BROKERS")})
        mine = [t for t in admin.list_topics(timeout=30).topics if t.startswith(self.prefix)]
        if mine:
            for done in admin.delete_topics(mine, operation_timeout=30).values():
                done.result(60)

    # ---- what others see

    def connect(self):
        return pymysql.connect(host=self.server("MYSQL_HOST"), port=int(self.server("MYSQL_PORT")), user=self.server("MYSQL_USER"),
                               password=self.server("MYSQL_PASSWORD"), charset="utf8mb4", autocommit=True)

    def sql(self, statement, *values):
        with self.connect() as connection, connection.cursor() as cursor:
            with contextlib.suppress(pymysql.err.OperationalError):
                connection.select_db(self.database)
            cursor.execute(statement, values or None)
            return cursor.fetchall()

    def one(self, statement, *values):
        return self.sql(statement, *values)[0][0]

    @contextlib.contextmanager
    def held(self):
        """Nobody can write posts meanwhile."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLES {self.database}.outbound WRITE")
            yield

    def tables(self):
        return {row[0] for row in self.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", self.database)}

    def make_empty_database(self):
        self.sql(f"CREATE DATABASE {self.database}")

    def subscribe(self, topic, group=None):
        """A plain consumer of all that the topic holds, from its beginning."""
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": self.server("KAFKA_BROKERS"), "group.id": group or "subscriber-" + uuid.uuid4().hex,
            "auto.offset.reset": "earliest", "enable.auto.commit": False})
        consumer.subscribe([self.prefix + topic])
        return consumer

    def records(self, topic, enough, seconds=30.0):
        """Records of a topic from the beginning until enough(records) is true."""
        consumer, records = self.subscribe(topic), []

        def more():
            record = consumer.poll(0.2)
            if record is not None:
                assert record.error() is None, record.error()
                records.append(record)
            return enough(records)
        try:
            wait_for(more, f"records of {topic}; {len(records)} so far", seconds, every=0)
        finally:
            consumer.close()
        return records

    def producer(self, **more):
        return confluent_kafka.Producer({"bootstrap.servers": self.server("KAFKA_BROKERS"), "partitioner": "murmur2_random", **more})

    def produce_all(self, topic, records, **settings):
        """Records, as a foreign producer would write them: what produce() of confluent_kafka takes, each. Their partitions and offsets."""
        producer, reports = self.producer(**settings), {}
        for n, record in enumerate(records):
            producer.produce(self.prefix + topic, on_delivery=lambda error, record, n=n: reports.update({n: (error, record)}), **record)
            producer.poll(0)
        assert producer.flush(60) == 0
        assert not [error for error, _ in reports.values() if error is not None], reports
        return [(record.partition(), record.offset()) for _, (_, record) in sorted(reports.items(), key=lambda report: report[0])]

    def produce(self, topic, value, key=None, headers=None, partition=None):
        """One record; its partition and offset."""
        more = {} if partition is None else {"partition": partition}
        place, = self.produce_all(topic, [{"value": value, "key": key, "headers": headers, **more}])
        return place

    def searchable(self):
        """Makes what the engine has visible to searches."""
        requests.post(f"{self.server('SEARCH_URL')}/{self.index}/_refresh", timeout=30).raise_for_status()

    def documents(self):
        self.searchable()
        answer = requests.get(f"{self.server('SEARCH_URL')}/{self.index}/_count", timeout=30)
        answer.raise_for_status()
        return answer.json()["count"]

    def ends(self, topic):
        """Where each partition ends: what was ever put there, as a number."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.server("KAFKA_BROKERS"), "group.id": self.prefix + "nobody"})
        try:
            partitions = consumer.list_topics(self.prefix + topic, timeout=30).topics[self.prefix + topic].partitions
            return [consumer.get_watermark_offsets(confluent_kafka.TopicPartition(self.prefix + topic, p), timeout=30)[1] for p in sorted(partitions)]
        finally:
            consumer.close()

    @staticmethod
    def read_by(group):
        return {"command": "feed.commands", "chunk": "feed.chunks"}.get(group, "feed.posts")

    def lag(self, group, topic=None):
        """Records of the topic that the group has not committed, as any Kafka client sees it."""
        topic = self.prefix + (topic or self.read_by(group))
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.server("KAFKA_BROKERS"), "group.id": self.prefix + group})
        try:
            partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
            places = consumer.committed([confluent_kafka.TopicPartition(topic, p) for p in partitions], timeout=30)
            lag = 0
            for place in places:
                low, high = consumer.get_watermark_offsets(place, timeout=30)
                lag += high - max(place.offset, low)
            return lag
        finally:
            consumer.close()

    def delete_records(self, topic, partition, below):
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.server("KAFKA_BROKERS")})
        for done in admin.delete_records([confluent_kafka.TopicPartition(self.prefix + topic, partition, below)]).values():
            done.result(30)

    @contextlib.contextmanager
    def without_topic(self, topic):
        """The topic is gone meanwhile, and made again after."""
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.server("KAFKA_BROKERS")})
        for done in admin.delete_topics([self.prefix + topic], operation_timeout=30).values():
            done.result(60)
        wait_for(lambda: self.prefix + topic not in admin.list_topics(timeout=30).topics, f"brokers know that {topic} is gone")
        try:
            yield
        finally:
            self.ctl("topics")

    def metric(self, process, name, **labels):
        """The sum of a metric's samples that have these labels."""
        total, found = 0.0, False
        for line in requests.get(process.admin + "/metrics", timeout=10).text.splitlines():
            match = re.match(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$", line)
            if match and match[1] == name and all(f'{k}="{v}"' in (match[2] or "") for k, v in labels.items()):
                total, found = total + float(match[3]), True
        assert found, f"{process.name} has no metric {name} {labels}"
        return total
