"""RabbitMQ itself is killed, or takes no messages: on a server of these tests' own."""
import contextlib

import pymysql
import pytest
import requests

from conftest import Cluster, Feedmill, wait_for
from rabbit import Rabbit
from test_faults import worker_value


class Alone(Cluster):
    """Workers on a server that nobody else uses."""

    def __init__(self, folder, rabbit, **settings):
        self.url = rabbit.url + "/"
        Feedmill.__init__(self, folder, **{"amqp.url": rabbit.url, "job.mingle": False, "job.retry_first_ms": 10, **settings})

    def drop(self):
        with contextlib.suppress(pymysql.Error):
            self.sql(f"DROP DATABASE IF EXISTS {self.database}")


@pytest.fixture(scope="module")
def rabbit(module_folder):
    rabbit = Rabbit(module_folder)
    try:
        yield rabbit.start()
    finally:
        rabbit.stop()


@pytest.fixture
def cluster(rabbit, tmp_path):
    cluster = Alone(tmp_path, rabbit)
    try:
        yield cluster
    finally:
        cluster.stop()


def test_kill_9_of_rabbitmq_loses_no_job(cluster, rabbit):
    """What was confirmed to the client is done, also what waits for later; what ran meanwhile keeps its result."""
    app = cluster.app(cluster.make_database(), broker_transport_options={"confirm_publish": True})
    worker = cluster.job(results="database", concurrency=2, delivery_limit=20)
    results = [app.send_task("sleep", [0.2]) for _ in range(30)] + [app.send_task("add", [n, 1], countdown=4) for n in range(5)]
    wait_for(lambda: worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') >= 5, "some are done")
    wait_for(lambda: worker_value(worker, "feedmill_job_deliveries_total") >= 15, "those for later are moved away, or will be")
    rabbit.kill()
    wait_for(lambda: requests.get(worker.admin + "/readyz", timeout=5).status_code == 503, "it is not ready", 30)
    rabbit.start()
    assert [r.get(timeout=90) for r in results] == [0.2] * 30 + [n + 1 for n in range(5)]
    assert cluster.one("SELECT COUNT(*) FROM celery_taskmeta WHERE status = 'SUCCESS'") == 35
    assert worker.stop() == 0


def test_memory_alarm_holds_results_up_and_nothing_else(cluster, rabbit):
    worker = cluster.job()
    app = cluster.app()
    assert app.send_task("add", [1, 2]).get(timeout=30) == 3
    result = app.send_task("sleep", [3])
    wait_for(lambda: app.control.inspect(destination=[worker.node], timeout=5).active()[worker.node], "it runs")
    rabbit.ctl("set_vm_memory_high_watermark", "0")
    try:
        wait_for(lambda: requests.get(worker.admin + "/readyz", timeout=5).status_code == 503, "the alarm is shown", 60)
        assert requests.get(worker.admin + "/healthz", timeout=5).status_code == 200
    finally:
        rabbit.ctl("set_vm_memory_high_watermark", "0.4")
    assert result.get(timeout=60) == 3
    wait_for(lambda: requests.get(worker.admin + "/readyz", timeout=5).status_code == 200, "it is ready again", 60)


def test_stop_during_a_memory_alarm(cluster, rabbit):
    """A result that can't be sent keeps the process for its drain time, no longer; the job comes again."""
    worker = cluster.job(**{"worker.drain_timeout_ms": 3000})
    app = cluster.app()
    result = app.send_task("sleep", [2])
    wait_for(lambda: app.control.inspect(destination=[worker.node], timeout=5).active()[worker.node], "it runs")
    rabbit.ctl("set_vm_memory_high_watermark", "0")
    try:
        wait_for(lambda: worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == 1, "it has run")
        worker.stop()
    finally:
        rabbit.ctl("set_vm_memory_high_watermark", "0.4")
    cluster.job()
    assert result.get(timeout=60) == 2
