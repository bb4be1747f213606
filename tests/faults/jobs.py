"""Job workers with fault points, and an unmodified Celery client of theirs."""
import contextlib
import json

import celery
import pymysql

from feedmill import Feedmill, server, wait_for
from rig import BUILD


def take(channel, queue):
    """All that waits there: ids, headers and arguments."""
    got = []
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return got
        got.append((properties.correlation_id, properties.headers, json.loads(body)[0]))


class Jobs(Feedmill):
    """Workers with results in a database of their own, a job `note` that writes down each run, then does
    what `body` says, and a Celery client."""

    def __init__(self, folder, url, body="echo 42", **settings):
        self.notes, script = folder / "notes", folder / "note.sh"
        script.write_text(f"#!/bin/sh\ncat >/dev/null\necho $FEED_JOB_ID >>{self.notes}\n{body}\n")
        script.chmod(0o755)
        self.notes.touch()
        super().__init__(folder, build=BUILD, **{
            "amqp.url": url, "job.exec": f"note={script}", "job.results": "database", "job.concurrency": 1, "job.mingle": False, **settings})
        self.sql(f"CREATE DATABASE {self.database}")
        database = f"{server('MYSQL_USER')}:{server('MYSQL_PASSWORD')}@{server('MYSQL_HOST')}:{server('MYSQL_PORT')}/{self.database}"
        self.app = celery.Celery("repeats", broker=url, backend=f"db+mysql+pymysql://{database}", set_as_current=False)

    def runs(self):
        return self.notes.read_text().split()

    def killed_at(self, point):
        worker = self.worker("job", env={"FAULT": f"{point}:1:kill"}, wait=False)
        wait_for(lambda: not worker.running(), f"{point} is passed", 60)
        assert worker.popen.wait() == -9 and worker.logged(rf"event=fault point={point} ")

    def drop(self):
        self.app.close()
        with contextlib.suppress(pymysql.Error):
            self.sql(f"DROP DATABASE IF EXISTS {self.database}")
