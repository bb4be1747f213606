"""A client whose tables have names of their own, in a process of its own: Celery keeps those names in classes that all apps of a process share.
Arguments: the broker's URL, the back end's, Celery's settings as JSON, and "look", which makes the tables, or "use". One line of JSON comes out."""
import json
import sys

import celery

broker, backend, settings, what = sys.argv[1:]
app = celery.Celery("named", broker=broker, backend=backend)
app.conf.update(json.loads(settings))

if what == "look":
    print(json.dumps(app.AsyncResult("nothing-yet").state))
    sys.exit()


def outcome(result):
    try:
        return result.get(timeout=60)
    except Exception as e:  # what it is called is what is asked for
        return type(e).__name__ + ": " + str(e)


add = app.send_task("add", [1, 2])
group = celery.group(app.signature("add", (n, 1)) for n in range(2)).apply_async()
answers = {"add": outcome(add), "fail": outcome(app.send_task("fail", ["boom"])), "group": outcome(group)}
group.save()
answers["restored"] = outcome(app.GroupResult.restore(group.id))
print(json.dumps([answers, add.id, group.id]))
