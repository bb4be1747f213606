"""Many jobs that do nothing, and lost connections among them: what of them was done, how often, and what memory that took.

Each job's result comes to a queue, as to a client by rpc://, and is counted by the job's number in a process of its own. So a job
that is lost has a count of 0, and one that was run again has as many as its runs (or more: a result may come twice).
"""
import contextlib
import json
import multiprocessing
import pathlib
import statistics
import time

import pika
import requests

from feedmill import memory_kib, wait_for
from proxy import Proxy

RESULTS = "flood.results"
BATCH = 500             # jobs between looks at what else is due
BACKLOG = 20_000        # jobs that wait at most


def family_of(pid):
    """It, its children, and theirs."""
    children, found = {}, [pid]
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):      # it has ended meanwhile
            children.setdefault(int(stat.read_text().rpartition(") ")[2].split()[1]), []).append(int(stat.parent.name))
    for one in found:
        found += children.get(one, [])
    return found


def worker_value(worker, name, labels=""):
    for line in requests.get(worker.admin + "/metrics", timeout=10).text.splitlines():
        if line.startswith(name) and (not labels or labels in line):
            return float(line.rsplit(" ", 1)[1])
    return 0


def is_ready(worker):
    return requests.get(worker.admin + "/readyz", timeout=5).status_code == 200


def through_proxy(cluster):
    host, port = cluster.url.split("@")[1].split("/")[0].split(":")
    proxy = Proxy(host, int(port))
    return proxy, cluster.url.replace(f"{host}:{port}", f"127.0.0.1:{proxy.port}")


def count_results(url, counts, done, wrong):
    """Runs in a process of its own until it is ended."""
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()

    def one(_channel, _method, properties, body):
        number = int(properties.correlation_id[-12:])
        if b'"SUCCESS"' not in body:
            wrong.value += 1
        done.value += counts[number] == 0
        counts[number] = min(counts[number] + 1, 255)
    channel.basic_consume(RESULTS, one, auto_ack=True)
    channel.start_consuming()


class Flood:
    def __init__(self, cluster, jobs, reconnects, say=lambda line: None, is_whole=False):
        """is_whole: the memory of the worker's children counts too."""
        self.cluster, self.jobs, self.reconnects, self.say, self.is_whole = cluster, jobs, reconnects, say, is_whole
        self.counts = multiprocessing.RawArray("B", jobs)
        self.done, self.wrong = multiprocessing.RawValue("q", 0), multiprocessing.RawValue("q", 0)
        self.lost = 0           # connections, so far
        self.course = []        # KiB, at each tenth
        self.sent = 0

    def run(self, **settings):
        """The worker is started here; the summary, when all is done."""
        proxy, url = through_proxy(self.cluster)
        with self.cluster.channel() as channel:
            channel.queue_declare(RESULTS, durable=True)
        counter = multiprocessing.get_context("spawn").Process(target=count_results, args=(self.cluster.url, self.counts, self.done, self.wrong), daemon=True)
        try:
            self.worker = self.cluster.job(**{"pool": "threads", "concurrency": 4, "prefetch_multiplier": 64, "results": "rpc", "amqp.url": url, **settings})
            counter.start()
            began = time.monotonic()
            self._send(proxy)
            self._finish(proxy)
            return self._summary(time.monotonic() - began)
        finally:
            if counter.pid:
                counter.terminate()
                counter.join()
            proxy.close()

    def _send(self, proxy):
        body = json.dumps([["x"], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
        with self.cluster.channel() as channel:
            for n in range(self.jobs):
                ident = f"00000000-0000-4000-8000-{n:012}"
                channel.basic_publish("", "celery", body, pika.BasicProperties(
                    content_type="application/json", content_encoding="utf-8", delivery_mode=2, correlation_id=ident, reply_to=RESULTS,
                    headers={"lang": "py", "task": "echo", "id": ident, "root_id": ident, "retries": 0, "timelimit": [None, None],
                             "argsrepr": "('x',)", "kwargsrepr": "{}", "origin": "gen1@test"}))
                self.sent = n + 1
                if self.sent % BATCH == 0:
                    self._look(proxy)
                    last = time.monotonic()
                    while self.sent - self.done.value > BACKLOG:
                        channel.connection.process_data_events(0.05)
                        self._look(proxy)
                        assert time.monotonic() - last < 120, f"nothing moves: {self.done.value} of {self.sent} are done"

    def _look(self, proxy):
        """What is due at this point: a lost connection, a measurement."""
        done = self.done.value
        if self.lost < self.reconnects and done >= (self.lost + 1) * self.jobs // (self.reconnects + 1):
            self._lose(proxy)
        if done >= (len(self.course) + 1) * self.jobs // 10:
            self.course.append(self._memory())
            self.say(f"{done:>9} done, {self.lost:>4} connections lost, {self.course[-1]:>6} KiB")

    def _memory(self):
        """The pages of libraries are not counted: the share of them that PSS gives to one process grows when another ends."""
        return sum(memory_kib(pid, "Anonymous") for pid in (family_of(self.worker.pid) if self.is_whole else [self.worker.pid]))

    def _lose(self, proxy):
        """One connection for deliveries that was up. A cut that comes while one is being made may miss it: then another."""
        def cut():
            if is_ready(self.worker):
                proxy.drop()
            return self._lost() > before
        before = self._lost()
        wait_for(cut, "a connection is lost", 60, every=0.5)
        wait_for(lambda: is_ready(self.worker), "it is back", 60, every=0.05)
        self.lost = self._lost()

    def _lost(self):
        return int(worker_value(self.worker, "feedmill_job_reconnects_total"))

    def _finish(self, proxy):
        def all_done():
            self._look(proxy)
            return self.done.value >= self.jobs
        wait_for(all_done, "all ran", 120 + self.jobs / 500, every=0.1)
        while self.lost < self.reconnects:
            self._lose(proxy)
        wait_for(lambda: self.cluster.count("celery") == 0, "the queue is empty", 60, every=0.3)
        wait_for(lambda: is_ready(self.worker), "it is back", 60)
        self.course.append(self._memory())
        assert self.cluster.app().send_task("add", [1, 2]).get(timeout=60) == 3, "it goes on"

    def _summary(self, seconds):
        counts = bytes(self.counts)
        return {"jobs": self.jobs, "lost": counts.count(0), "most_runs": max(counts), "again": sum(counts) - self.jobs, "wrong": self.wrong.value,
                "dead": self.cluster.count("feed.jobs.dead"), "reconnects": self.lost, "seconds": round(seconds, 1), "kib": self.course}


def check(summary, cap=5, most_mib=32):
    """No job lost, none run more often than the cap, memory flat. Figures that are small in themselves may differ by pages."""
    assert summary["lost"] == summary["dead"] == summary["wrong"] == 0, summary
    assert summary["most_runs"] <= cap, summary
    kib = summary["kib"]
    assert max(kib) < most_mib * 1024, summary
    assert kib[-1] <= statistics.median(kib[:6]) * 1.1 + 1024, summary
