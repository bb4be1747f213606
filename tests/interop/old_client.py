"""Run by an older Celery's Python: its client against our worker. Arguments: the broker's URL, the back end's. One line of JSON comes out."""
import datetime
import decimal
import json
import sys

import celery
import celery.exceptions
from celery import chain, group

broker, backend = sys.argv[1:]
app = celery.Celery("old", broker=broker, backend=backend)
s = app.signature


def outcome(result):
    try:
        return result.get(timeout=30)
    except Exception as e:  # what it is called is what is asked for
        return type(e).__name__ + ": " + str(e)


print(json.dumps({
    "version": celery.__version__,
    "add": outcome(app.send_task("add", [1, 2])),
    "echo": outcome(app.send_task("echo", [{"a": [1, 2.5, None, "ü"]}])),
    "types": repr(outcome(app.send_task("echo", [[datetime.date(2026, 1, 2), decimal.Decimal("1.10"), b"\xff"]]))),
    "fail": outcome(app.send_task("fail", ["boom"])),
    "unknown": outcome(app.send_task("no.such.task")),
    "flaky": outcome(app.send_task("flaky", [2])),
    "countdown": outcome(app.send_task("add", [2, 2], countdown=1)),
    "chain": outcome(chain(s("add", (1, 2)), s("add", (10,))).apply_async()),
    "group": outcome(group(s("add", (i, 1)) for i in range(5)).apply_async()),
    "limit": outcome(app.send_task("sleep", [60], time_limit=1)),
    "ping": sorted((app.control.inspect(timeout=3).ping() or {}).values(), key=str),
    "registered": "add" in sum((app.control.inspect(timeout=3).registered() or {}).values(), []),
}))
