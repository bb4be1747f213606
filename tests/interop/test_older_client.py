"""Celery 5.4, whose results are pickles alone: the same worker, both back ends."""
import json
import os
import pathlib
import subprocess

import pytest

PYTHON = os.environ.get("FEED_CELERY_5_4")


@pytest.mark.skipif(not PYTHON, reason="FEED_CELERY_5_4 names no Python with Celery 5.4: ./dev test makes one")
@pytest.mark.parametrize("backend", ["rpc", "database"])
def test_celery_5_4(make_cluster, backend):
    cluster = make_cluster()
    url = cluster.make_database() if backend == "database" else "rpc://"
    cluster.job(results=backend)
    done = subprocess.run([PYTHON, pathlib.Path(__file__).with_name("old_client.py"), cluster.url, url], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers.pop("version").startswith("5.4")
    assert answers == {
        "types": "[datetime.date(2026, 1, 2), Decimal('1.10'), b'\\xff']", "add": 3, "echo": {"a": [1, 2.5, None, "ü"]}, "fail": "ValueError: boom", "unknown": "NotRegistered: 'no.such.task'", "flaky": 2,
        "countdown": 4, "chain": 13, "group": [1, 2, 3, 4, 5], "limit": "TimeLimitExceeded: TimeLimitExceeded(1,)",
        "ping": [{"ok": "pong"}], "registered": True}
