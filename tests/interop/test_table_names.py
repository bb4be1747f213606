"""Tables of results under other names: what a client of Celery sets as database_table_names and database_table_schemas."""
import contextlib
import json
import pathlib
import sqlite3
import subprocess
import sys

import pytest

from conftest import wait_for

OURS, THEIRS = "myapp_taskmeta", "order"  # the second is a word of SQL
NAMES = {"task": OURS, "group": THEIRS}
SETTINGS = {"job.results": "database", "job.result_table": OURS, "job.group_table": THEIRS}
EXPECTED = {"add": 3, "fail": "ValueError: boom", "group": [1, 2], "restored": [1, 2]}


def client(cluster, backend, what, **settings):
    """An unmodified client's answers; see named_client.py."""
    script = pathlib.Path(__file__).with_name("named_client.py")
    done = subprocess.run([sys.executable, script, cluster.url, backend, json.dumps(settings), what], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def status(cluster, ident):
    return json.loads(cluster.ctl("job", "status", ident, check=False).stdout)


@pytest.mark.parametrize("maker", ["a worker", "a client"])
def test_names_of_the_clients_own(make_cluster, maker):
    """Whoever has made the tables: results, saved groups and their end, what feedctl reads, and what is asked for once more."""
    cluster = make_cluster(**SETTINGS, **{"job.deduplicate_successful": True})
    url = cluster.make_database()
    if maker == "a client":
        assert client(cluster, url, "look", database_table_names=NAMES) == "PENDING"
    worker = cluster.job()
    if maker == "a worker":
        wait_for(lambda: OURS in cluster.tables(), "the table is made", 60)
    answers, ident, group = client(cluster, url, "use", database_table_names=NAMES)
    assert answers == EXPECTED
    assert {OURS, THEIRS} <= cluster.tables() and not {"celery_taskmeta", "celery_tasksetmeta"} & cluster.tables()
    assert status(cluster, ident) == {"id": ident, "status": "done", "result": 3}

    sender = cluster.app()  # its results are not waited for
    sender.send_task("add", [2, 2], task_id="twice", countdown=1)
    wait_for(lambda: cluster.sql(f"SELECT status FROM {OURS} WHERE task_id = 'twice'") == (("SUCCESS",),), "the first one is done", 60)
    sender.send_task("add", [3, 3], task_id="twice", countdown=1)
    worker.wait_logged("it had succeeded", 60)

    cluster.sql(f"UPDATE {OURS} SET date_done = '2020-01-01' WHERE task_id = %s", ident)
    cluster.sql(f"UPDATE `{THEIRS}` SET date_done = '2020-01-01'")
    sender.send_task("celery.backend_cleanup")
    wait_for(lambda: cluster.one(f"SELECT COUNT(*) FROM `{THEIRS}`") == 0, "the old group is gone", 60)
    assert cluster.sql(f"SELECT status FROM {OURS} WHERE task_id = %s", ident) == ()
    assert status(cluster, "twice")["result"] == 4


@pytest.mark.parametrize("maker", ["a worker", "a client"])
def test_a_database_of_their_own(make_cluster, maker):
    """database_table_schemas: on MySQL a schema is a database. Nothing of it is in the one that the settings name."""
    cluster = make_cluster()
    url, other = cluster.make_database(), cluster.database + "_results"
    cluster.settings.update({"job.results": "database", "job.result_table": f"{other}.{OURS}", "job.group_table": f"{other}.{THEIRS}"})
    cluster.write_config()
    settings = {"database_table_names": NAMES, "database_table_schemas": {"task": other, "group": other}}
    cluster.sql(f"CREATE DATABASE {other}")
    try:
        if maker == "a client":
            assert client(cluster, url, "look", **settings) == "PENDING"
        worker = cluster.job()
        answers, ident, group = client(cluster, url, "use", **settings)
        assert answers == EXPECTED
        assert status(cluster, ident) == {"id": ident, "status": "done", "result": 3}
        assert not {OURS, THEIRS, "task_id_sequence", "celery_taskmeta", "celery_tasksetmeta"} & cluster.tables()
        cluster.sql(f"UPDATE {other}.{OURS} SET date_done = '2020-01-01' WHERE task_id = %s", ident)
        cluster.sql(f"UPDATE {other}.`{THEIRS}` SET date_done = '2020-01-01'")
        cluster.app().send_task("celery.backend_cleanup")
        wait_for(lambda: cluster.one(f"SELECT COUNT(*) FROM {other}.`{THEIRS}`") == 0, "the old group is gone", 60)
        assert cluster.sql(f"SELECT status FROM {other}.{OURS} WHERE task_id = %s", ident) == ()
        assert worker.stop() == 0
    finally:
        cluster.sql(f"DROP DATABASE {other}")


def test_names_in_a_file(make_cluster, tmp_path):
    """The same in SQLite, for one machine without servers."""
    folder = tmp_path / "store"
    cluster = make_cluster(**SETTINGS, **{"store.type": "sqlite", "embedded.folder": str(folder), "queue.type": "sqlite", "search.type": "sqlite"})
    cluster.ctl("migrate")

    def sql(statement):
        with contextlib.closing(sqlite3.connect(folder / "store.db", timeout=30)) as connection, connection:
            return connection.execute(statement).fetchall()
    cluster.job()
    answers, ident, group = client(cluster, f"db+sqlite:///{folder}/store.db", "use", database_table_names=NAMES)
    assert answers == EXPECTED
    assert status(cluster, ident) == {"id": ident, "status": "done", "result": 3}
    sql(f"UPDATE {OURS} SET date_done = '2020-01-01 00:00:00.000' WHERE task_id = '{ident}'")
    sql(f"UPDATE `{THEIRS}` SET date_done = '2020-01-01 00:00:00.000'")
    cluster.app().send_task("celery.backend_cleanup")
    wait_for(lambda: sql(f"SELECT COUNT(*) FROM `{THEIRS}`") == [(0,)], "the old group is gone", 60)
    assert sql(f"SELECT status FROM {OURS} WHERE task_id = '{ident}'") == []
