"""The results' table: written by us, read by unmodified clients; and in the other order of who made it."""
import contextlib
import datetime
import decimal
import json
import pickle
import sqlite3
import time
import uuid

import celery
import celery.exceptions
import pytest

from conftest import wait_for
from flood import worker_value
from test_protocol import headers, raw_result


@pytest.fixture(scope="module")
def url(cluster):
    return cluster.make_database()


@pytest.fixture(scope="module")
def worker(cluster, url):
    return cluster.job(results="database", track_started=True)


@pytest.fixture(scope="module")
def app(cluster, worker, url):
    return cluster.app(url)


def test_result_in_the_table(app):
    result = app.send_task("echo", [{"a": [1, 2.5, None, True, "ü😀", -5, 2**40, 2**70]}])
    assert result.get(timeout=30) == {"a": [1, 2.5, None, True, "ü😀", -5, 2**40, 2**70]}
    assert result.state == "SUCCESS" and result.date_done is not None


def test_kombus_types_in_the_table(app):
    """They come back as what they are in Python, as from a Python worker, and not as how JSON says it."""
    now = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    values = [now, now.date(), now.timetz(), decimal.Decimal("1.10"), uuid.UUID(int=7), b"text", b"\x00\xff", {"deep": [{"er": now}]},
              {"__type__": "date", "and": "more"}]
    back = app.send_task("echo", [values]).get(timeout=30)
    assert back == values and [type(value) for value in back] == [type(value) for value in values]


def test_failure_in_the_table(app):
    result = app.send_task("fail", ["boom"])
    with pytest.raises(ValueError, match="boom"):
        result.get(timeout=30)
    assert "boom" in result.traceback


def test_null_and_large_results(app):
    assert app.send_task("echo", [None]).get(timeout=30) is None
    assert app.send_task("echo", ["x" * 300_000]).get(timeout=30) == "x" * 300_000


def test_started_is_seen(app):
    result = app.send_task("sleep", [2])
    wait_for(lambda: result.state == "STARTED", "the state STARTED", 10)
    assert app.backend.get_task_meta(result.id)["result"]["pid"] > 0
    assert app.backend.get_task_meta(result.id)["date_done"] is None  # and so it is not one of those that expire
    assert result.get(timeout=30) == 2
    assert result.date_done is not None


def test_each_state_is_told_by_rpc(make_cluster):
    """Also those on the way, to a client that wants to hear of them."""
    cluster = make_cluster()
    worker = cluster.job(track_started=True)
    app, told = cluster.app(), []
    assert app.send_task("flaky", [1]).get(timeout=60, on_message=told.append) == 1
    assert [meta["status"] for meta in told] == ["STARTED", "RETRY", "STARTED", "SUCCESS"]
    assert ["date_done" in meta for meta in told] == [False, False, False, True]
    assert told[1]["result"] == {"exc_type": "Retry", "exc_message": ["flaky: not yet"], "exc_module": "celery.exceptions"} and told[1]["traceback"]
    assert told[0]["result"]["pid"] > 0 and told[0]["result"]["hostname"] == worker.node
    another = cluster.app()     # nobody consumes its queue yet: then its state can be asked for
    result = another.send_task("sleep", [600])
    wait_for(lambda: result.state == "STARTED", "the state STARTED", 60)
    result.revoke(terminate=True)
    with pytest.raises(celery.exceptions.TaskRevokedError):
        result.get(timeout=60)


@pytest.mark.parametrize("is_persistent", [False, True])
def test_results_by_rpc_are_kept_on_disk_if_wanted(make_cluster, is_persistent):
    """Each state, also of what was never run; and a client that is set so too has its result."""
    cluster = make_cluster()
    cluster.job(result_persistent=is_persistent, track_started=True)
    app, modes = cluster.app(result_persistent=is_persistent), {}
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3
    with cluster.channel() as channel:
        replies = channel.queue_declare("", exclusive=True).method.queue
        ident = app.send_task("add", [1, 2], reply_to=replies).id
        cluster.publish("unreadable", headers={"task": "add", "id": "never-run"}, reply_to=replies)
        for _, properties, body in channel.consume(replies, auto_ack=True, inactivity_timeout=60):
            assert body is not None, modes
            modes[properties.correlation_id, json.loads(body)["status"]] = properties.delivery_mode
            if len(modes) == 3:
                break
    assert modes == dict.fromkeys([(ident, "STARTED"), (ident, "SUCCESS"), ("never-run", "FAILURE")], 2 if is_persistent else 1)


def test_retry_and_revoked_are_states(app, worker):
    assert app.send_task("flaky", [1]).get(timeout=30) == 1
    result = app.send_task("sleep", [60])
    wait_for(lambda: result.state == "STARTED", "it runs", 10)
    result.revoke(terminate=True)
    with pytest.raises(celery.exceptions.TaskRevokedError):
        result.get(timeout=30)


def test_chain_over_the_table(app):
    s = app.signature
    assert (s("add", (1, 2)) | s("add", (10,))).apply_async().get(timeout=30) == 13
    result = (s("fail", ("x",)) | s("add", (10,))).apply_async()
    with pytest.raises(ValueError):
        result.get(timeout=30)


def test_group_over_the_table(app):
    from celery import group
    assert group(app.signature("add", (i, 1)) for i in range(10)).apply_async().get(timeout=30) == list(range(1, 11))


def test_success_is_never_overwritten(cluster, app):
    result = app.send_task("add", [1, 2])
    assert result.get(timeout=30) == 3
    result.revoke()
    app.send_task("add", [1, 2], task_id=result.id)  # revoked: would be REVOKED now
    assert app.send_task("add", [2, 2]).get(timeout=30) == 4
    assert cluster.one("SELECT status FROM celery_taskmeta WHERE task_id = %s", result.id) == "SUCCESS"


def test_same_id_again(cluster, app, worker):
    """The first SUCCESS stays; a FAILURE gives way to the next run's."""
    def stored(ident):
        return cluster.sql("SELECT status, result FROM celery_taskmeta WHERE task_id = %s", ident)[0]
    done = worker_value(worker, "feedmill_job_runs_total", 'outcome="done"')
    assert app.send_task("echo", ["one"], task_id="kept").get(timeout=60) == "one"
    app.send_task("echo", ["two"], task_id="kept")
    wait_for(lambda: worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == done + 2, "it has run again", 60)
    with pytest.raises(ValueError, match="boom"):
        app.send_task("fail", ["boom"], task_id="better").get(timeout=60)
    app.send_task("echo", ["well"], task_id="better")
    wait_for(lambda: stored("better")[0] == "SUCCESS", "it is a success now", 60)
    assert pickle.loads(stored("better")[1]) == "well"
    assert (stored("kept")[0], pickle.loads(stored("kept")[1])) == ("SUCCESS", "one")


def test_stored_as_every_celery_reads_it(cluster, app):
    result = app.send_task("add", [20, 22])
    result.get(timeout=30)
    stored = cluster.one("SELECT result FROM celery_taskmeta WHERE task_id = %s", result.id)
    assert pickle.loads(stored) == 42


def test_json_format_and_extended(make_cluster):
    cluster = make_cluster()
    url = cluster.make_database()
    app = cluster.app(url, result_extended=True)
    cluster.job(results="database", database_format="json", result_extended=True)
    result = app.send_task("add", [1, 2], {})
    assert result.get(timeout=30) == 3
    assert (result.name, result.queue, result.retries) == ("add", "celery", 0)
    assert cluster.one("SELECT result FROM celery_taskmeta WHERE task_id = %s", result.id) == b"3"


@pytest.mark.parametrize("backend", ["rpc", "database"])
def test_extended_results_say_what_was_called_and_where(make_cluster, backend):
    cluster = make_cluster()
    url = cluster.make_database()
    worker = cluster.job(results=backend, result_extended=True)
    app = cluster.app("rpc://" if backend == "rpc" else url, result_extended=True)
    for name, arguments, named, tries in (("add", [1], {"y": 2}, 0), ("echo", [{"deep": ["ü", None, 2.5]}], {}, 0), ("flaky", [1], {}, 1), ("fail", [], {"message": "boom"}, 0)):
        result = app.send_task(name, arguments, named)
        result.get(timeout=60, propagate=False)
        assert (result.name, result.args, result.kwargs, result.worker, result.retries, result.queue) == (name, arguments, named, worker.node, tries, "celery")


@pytest.mark.parametrize("maker", ["a worker", "a client"])
def test_children_and_stamps_in_the_table(make_cluster, maker):
    """As Celery 5.7 keeps them, whoever has made the table."""
    cluster = make_cluster()
    app = cluster.app(cluster.make_database(), result_extended=True)
    if maker == "a client":
        assert app.AsyncResult("nothing-yet").state == "PENDING"
    cluster.job(results="database", result_extended=True)
    if maker == "a worker":
        wait_for(lambda: "celery_taskmeta" in cluster.tables(), "the table is made", 60)
    signature = app.signature("add", (1, 2))
    signature.stamp(customer="7")
    result = signature.apply_async(link=app.signature("add", (5,)))
    assert result.get(timeout=60) == 3
    assert [child.get(timeout=60) for child in result.children] == [8]
    meta = app.backend.get_task_meta(result.id)
    assert meta["stamped_headers"] == ["customer"] and meta["customer"] in ("7", ["7"])
    many = app.send_task("add", [1, 2], link=[app.signature("add", (n,)) for n in range(1500)])
    assert many.get(timeout=60) == 3 and not many.children  # they do not fit into every table


def test_stamps_by_rpc(make_cluster):
    """Each by its name, unless that is a name of the result's own."""
    cluster = make_cluster()
    cluster.job(result_extended=True)
    meta = raw_result(cluster, [[1, 2], {}, None], headers(stamped_headers=["customer", "status"], stamps={"customer": ["7"], "status": "late"}))
    assert (meta["stamped_headers"], meta["customer"], meta["status"], meta["name"]) == (["customer", "status"], ["7"], "SUCCESS", "add")


def test_table_made_by_a_python_client(make_cluster):
    """Its ids come from a sequence, and its column is shorter: a result that does not fit is a failure that says so."""
    cluster = make_cluster()
    app = cluster.app(cluster.make_database())
    assert app.AsyncResult("nothing-yet").state == "PENDING"  # makes the tables
    cluster.job(results="database")
    assert app.send_task("add", [1, 2]).get(timeout=30) == 3
    with pytest.raises(Exception, match="(?i)data too long|too long"):
        app.send_task("echo", ["x" * 70_000]).get(timeout=30)
    assert app.send_task("add", [2, 2]).get(timeout=30) == 4


def test_table_that_counts_by_itself(make_cluster):
    """As SQLAlchemy makes it on MySQL: its ids are taken from no sequence."""
    cluster = make_cluster()
    app = cluster.app(cluster.make_database(), result_extended=True)
    cluster.sql("CREATE TABLE celery_taskmeta (id INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY, task_id VARCHAR(155) UNIQUE, status VARCHAR(50), "
                "result BLOB, date_done DATETIME, traceback TEXT, children BLOB, name VARCHAR(155), args BLOB, kwargs BLOB, worker VARCHAR(155), "
                "retries INTEGER, queue VARCHAR(155), stamps BLOB, INDEX (date_done)) AUTO_INCREMENT = 1000")
    cluster.job(results="database", result_extended=True)
    result = app.send_task("add", [1, 2])
    assert result.get(timeout=60) == 3 and (result.name, result.args) == ("add", [1, 2])
    assert app.send_task("flaky", [1]).get(timeout=60) == 1
    ids = [row[0] for row in cluster.sql("SELECT id FROM celery_taskmeta ORDER BY id")]
    assert len(ids) == 2 and 1000 <= ids[0] < ids[1]


def test_old_results_are_deleted(make_cluster):
    cluster = make_cluster()
    app = cluster.app(cluster.make_database())
    worker = cluster.job(results="database", result_expires_s=1)
    result = app.send_task("add", [1, 2])
    assert result.get(timeout=30) == 3
    worker.stop()
    time.sleep(2)  # older than a second is what this is about
    cluster.job(results="database", result_expires_s=1)
    wait_for(lambda: cluster.one("SELECT COUNT(*) FROM celery_taskmeta") == 0, "the table is empty", 20)


def test_a_beats_cleanup_deletes_results_and_groups(make_cluster):
    """As Python's beat sends it each night: what is older than job.result_expires_s goes, also groups that clients have saved; the rest stays."""
    cluster = make_cluster()
    app = cluster.app(cluster.make_database())
    cluster.job(results="database", events=True)
    assert app.send_task("celery.backend_cleanup").get(timeout=60) is None  # where nobody has saved a group yet
    groups = [celery.group(app.signature("add", (n, 1))).apply_async() for n in range(2)]
    for group in groups:
        assert group.get(timeout=60) == [groups.index(group) + 1]
        group.save()
    cluster.sql("UPDATE celery_taskmeta SET date_done = '2020-01-01' WHERE task_id = %s", groups[0].results[0].id)
    cluster.sql("UPDATE celery_tasksetmeta SET date_done = '2020-01-01' WHERE taskset_id = %s", groups[0].id)
    assert app.send_task("celery.backend_cleanup", countdown=1, expires=3600).get(timeout=60) is None
    wait_for(lambda: cluster.sql("SELECT taskset_id FROM celery_tasksetmeta") == ((groups[1].id,),), "the old group is gone", 60)
    ids = {row[0] for row in cluster.sql("SELECT task_id FROM celery_taskmeta")}
    assert groups[1].results[0].id in ids and groups[0].results[0].id not in ids
    assert app.GroupResult.restore(groups[1].id).get(timeout=60) == [2] and cluster.count("feed.jobs.dead") == 0


def test_old_results_are_deleted_in_small_steps(make_cluster):
    """Whoever looks meanwhile sees some of them gone, and results come."""
    cluster = make_cluster()
    app = cluster.app(cluster.make_database())
    worker = cluster.job(results="database")
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3  # there is a table
    worker.stop()
    total, seen = 60_000, []
    id_of_it = "NEXT VALUE FOR task_id_sequence" if cluster.sql("SHOW FULL TABLES LIKE 'task_id_sequence'") else "NULL"
    for first in range(0, total, 1000):
        values = ",".join(f"({id_of_it}, 'old{n}', 'SUCCESS', '2020-01-01')" for n in range(first, first + 1000))
        cluster.sql(f"INSERT INTO celery_taskmeta (id, task_id, status, date_done) VALUES {values}")
    cluster.job(results="database", wait=False)
    result = app.send_task("add", [2, 2])

    def left():
        seen.append(cluster.one("SELECT COUNT(*) FROM celery_taskmeta WHERE date_done < '2021-01-01'"))
        return seen[-1]
    end = time.monotonic() + 120
    while left() > 0:
        assert time.monotonic() < end, seen[-1]
    assert any(0 < count < total for count in seen), "all of them at once"
    assert result.get(timeout=60) == 4
    assert cluster.one("SELECT COUNT(*) FROM celery_taskmeta") == 2


def test_both_back_ends_at_once(make_cluster):
    cluster = make_cluster()
    url = cluster.make_database()
    cluster.job(results="both")
    for backend in ("rpc://", url):
        assert cluster.app(backend).send_task("add", [1, 2]).get(timeout=30) == 3


def test_embedded_database(make_cluster, tmp_path):
    """The same table in SQLite, for one machine without servers."""
    folder = tmp_path / "store"
    cluster = make_cluster(**{"store.type": "sqlite", "embedded.folder": str(folder), "queue.type": "sqlite", "search.type": "sqlite"})
    cluster.ctl("migrate")
    worker = cluster.job(results="database", durable_revokes=True)
    app = cluster.app(f"db+sqlite:///{folder}/store.db")
    assert app.send_task("add", [1, 2]).get(timeout=30) == 3
    with pytest.raises(ValueError, match="boom"):
        app.send_task("fail", ["boom"], task_id="better").get(timeout=30)
    assert app.send_task("echo", ["one"], task_id="kept").get(timeout=60) == "one"
    for text, ident in (("two", "kept"), ("well", "better")):
        app.send_task("echo", [text], task_id=ident)
    wait_for(lambda: worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == 4, "all have run", 60)
    assert app.send_task("add", [2, 2]).get(timeout=60) == 4    # it was stored behind them
    with contextlib.closing(sqlite3.connect(folder / "store.db", timeout=10)) as connection:
        rows = connection.execute("SELECT task_id, status, result FROM celery_taskmeta WHERE task_id IN ('kept', 'better')").fetchall()
    assert {ident: (status, pickle.loads(result)) for ident, status, result in rows} == {"kept": ("SUCCESS", "one"), "better": ("SUCCESS", "well")}
    app.control.revoke("in-the-table", destination=[worker.node], reply=True, timeout=10)

    def row():
        with contextlib.closing(sqlite3.connect(folder / "store.db", timeout=10)) as connection:
            return connection.execute("SELECT at FROM job_revoked WHERE task_id = 'in-the-table'").fetchone()
    assert abs(wait_for(row, "the revoke is kept", 60)[0] / 1000 - time.time()) < 120
