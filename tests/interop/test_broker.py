"""RabbitMQ itself is killed, takes no messages, or speaks TLS: on a server of these tests' own."""
import contextlib
import json
import subprocess

import pymysql
import pytest
import requests

from conftest import Cluster, Feedmill, wait_for
from rabbit import Rabbit
from test_faults import worker_value
from test_protocol import headers, value


class Alone(Cluster):
    """Workers on a server that nobody else uses."""

    def __init__(self, folder, rabbit, **settings):
        self.url = rabbit.url + "/"
        Feedmill.__init__(self, folder, **{"amqp.url": rabbit.url, "job.mingle": False, "job.retry_first_ms": 10, **settings})

    def drop(self):
        with contextlib.suppress(pymysql.Error):
            self.sql(f"DROP DATABASE IF EXISTS {self.database}")


def make_authority(folder, name):
    """A CA, and a certificate for localhost that it has signed: their files, and the key's."""
    ca, certificate, key = (folder / f"{name}-{what}.pem" for what in ("ca", "certificate", "key"))
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    (folder / "extensions").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
    for words in ((*new, "-x509", "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{ca}.key", "-out", ca),
                  (*new, "-subj", "/CN=localhost", "-keyout", key, "-out", f"{certificate}.csr"),
                  ("x509", "-req", "-days", "2", "-in", f"{certificate}.csr", "-CA", ca, "-CAkey", f"{ca}.key", "-CAcreateserial",
                   "-extfile", folder / "extensions", "-out", certificate)):
        subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)
    key.chmod(0o644)
    return ca, certificate, key


@pytest.fixture(scope="module")
def authority(module_folder):
    return make_authority(module_folder, "ours")


@pytest.fixture(scope="module")
def rabbit(module_folder, authority):
    rabbit = Rabbit(module_folder, tls=authority)
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


def test_bodies_in_the_smallest_frames(cluster, rabbit):
    """Of 4096 bytes, 8 of them its own: a body that fills one or two, or one byte more, and a large one; none where it is empty."""
    rabbit.ctl("eval", "application:set_env(rabbit, frame_max, 4096).")
    try:
        worker = cluster.job()
        wait_for(lambda: sum(line.startswith("4096") and ("job consumer" in line or "job publisher" in line)
                             for line in rabbit.ctl("list_connections", "frame_max", "client_properties").splitlines()) == 2, "its frames are small", 60)
        around = len(json.dumps([[""], {}, None]))
        for size in (4087, 4088, 4089, 8176, 8177, 300_000):
            text = "x" * (size - around)
            assert value(cluster, [[text], {}, None], headers("echo")) == text
        cluster.publish(b"", headers=headers())
        assert cluster.dead(1)[0][1] == b""
        app = cluster.app()
        assert app.send_task("echo", ["y" * 10_000], countdown=1).get(timeout=60) == "y" * 10_000
        assert worker.stop() == 0 and cluster.count("celery") == 0
    finally:
        rabbit.ctl("eval", "application:set_env(rabbit, frame_max, 131072).")


def test_jobs_over_tls(cluster, rabbit, authority):
    """The server's certificate is checked: all of a worker's connections are encrypted, and those of feedctl."""
    tls = {"amqp.url": rabbit.tls_url, "amqp.ca_file": str(authority[0])}
    worker = cluster.job(concurrency=2, **tls)
    app = cluster.app()
    assert [r.get(timeout=60) for r in [app.send_task("add", [n, 1]) for n in range(200)]] == [n + 1 for n in range(200)]
    large = "x" * 3_000_000
    assert app.send_task("echo", [large]).get(timeout=60) == large, "more than a frame, and than a TLS record"
    config = cluster.write_config(cluster.folder / "tls.cfg", **tls)
    assert json.loads(cluster.ctl("job", "send", "add", "[2, 3]", "--wait", 60, config=config).stdout)["result"] == 5
    assert worker.node in cluster.ctl("job", "inspect", "--node", worker.node, "--timeout", 60, config=config).stdout
    mine = [line for line in rabbit.ctl("list_connections", "client_properties", "ssl").splitlines() if "job consumer" in line or "job publisher" in line]
    assert len(mine) >= 2 and all(line.split()[-1] == "true" for line in mine), mine


@pytest.mark.parametrize("wrong", ["another CA", "another name", "no CA", "no such file"])
def test_a_certificate_that_is_not_right_is_refused(cluster, rabbit, authority, tmp_path, wrong):
    """With words that say what to look at; nobody logs in."""
    url, ca = rabbit.tls_url, str(authority[0])
    if wrong == "another CA":
        ca = str(make_authority(tmp_path, "theirs")[0])
    elif wrong == "another name":
        url = url.replace("localhost", "127.0.0.1")
    else:
        ca = "" if wrong == "no CA" else str(tmp_path / "nothing.pem")
    config = cluster.write_config(cluster.folder / "wrong.cfg", **{"amqp.url": url, "amqp.ca_file": ca, "amqp.answer_timeout_ms": 1000})
    for words in (("inspect",), ("send", "echo", "[1]")):
        done = cluster.ctl("job", *words, config=config, check=False)
        assert done.returncode == 1 and done.stdout == "", (done.stdout, done.stderr)
        assert "amqp.ca_file" in done.stderr and (ca in done.stderr), done.stderr
        if wrong.startswith("another"):
            assert "certificate" in done.stderr and "feed:feed" not in done.stderr


def test_a_job_longer_than_the_brokers_consumer_timeout(cluster, rabbit):
    """RabbitMQ closes the channel under a delivery that it waits for too long: the job runs on, once, and its delivery is taken as its own again."""
    def limits(timeout_ms, tick_ms):
        rabbit.ctl("eval", f"application:set_env(rabbit, consumer_timeout, {timeout_ms}), application:set_env(rabbit, channel_tick_interval, {tick_ms}).")
    limits(3000, 500)
    try:
        worker = cluster.job(concurrency=1)
        result = cluster.app().send_task("sleep", [12])
        worker.wait_logged("connection for deliveries lost.*PRECONDITION_FAILED", 60)
        worker.wait_logged("level=warn.*longer than RabbitMQ waits.*consumer_timeout", 60)
        assert result.get(timeout=60) == 12
        wait_for(lambda: cluster.count("celery") == 0, "the queue is empty", 30)
        assert worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == 1
        assert worker.stop() == 0 and cluster.count("celery") == 0
    finally:
        limits(1800000, 60000)


def test_a_mailbox_that_was_deleted_is_opened_again(cluster, rabbit):
    worker = cluster.job(node="boxed@test")
    app = cluster.app()

    def answers():
        return app.control.inspect(destination=[worker.node], timeout=2).ping()
    wait_for(answers, "it answers", 60)
    rabbit.ctl("eval", '{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"boxed@test.celery.pidbox">>)), '
                       'rabbit_amqqueue:delete(Q, false, false, <<"test">>).')
    worker.wait_logged("remote control lost.*its queue was deleted", 60)
    wait_for(answers, "it answers again", 60)
    assert worker.stop() == 0
