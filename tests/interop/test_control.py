"""celery inspect, celery control and events, against this worker as if it were a Python one."""
import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time

import celery.exceptions
import pymysql
import pytest
from celery.utils.nodenames import host_format

from conftest import wait_for
from feedmill import server
from flood import worker_value


@pytest.fixture
def inspect(app, worker):
    return app.control.inspect(destination=[worker.node], timeout=5)


def ask(app, node, verb, **arguments):
    answers = app.control.broadcast(verb, arguments=arguments, reply=True, destination=[node], timeout=5, limit=1)
    return answers[0][node]


def test_ping_and_names(app, worker, inspect):
    assert inspect.ping() == {worker.node: {"ok": "pong"}}
    assert {worker.node: {"ok": "pong"}} in app.control.ping(timeout=5, limit=1)
    assert app.control.inspect(pattern="feed*", matcher="glob", timeout=5, limit=1).ping()
    assert app.control.inspect(pattern="^feed[0-9]+@", matcher="pcre", timeout=5, limit=1).ping()
    assert not app.control.inspect(pattern="other*", matcher="glob", timeout=1).ping()


@pytest.mark.parametrize("pattern, is_match", [
    ("feed", True), (r"feed\d+@", True), (r"[\w]{4}[\d@]+", True), (r"(?:food|feed)\d", True), (r"feed[^\d]", False), (r"feed\D", False),
    ("eed[0-9]", False), ("eed|node", False), (r"feed\d+\.test", False), (r"feed\d+.test", True), ("[]f]eed", True), ("fee[", False), ("x*", True),
    (r"feed(?=\d)", True), (r"feed(?!\d)", False), (r"f.+?@(?P<host>test)$", True), (r"f(?P<e>e)(?P=e)d\d", True), ("(?i)FEED", True), ("((f+)+e+)+$", False)])
def test_a_node_is_named_by_an_expression_as_python_matches_it(app, worker, pattern, is_match):
    """From the start of its name; a request behind it shows that this one was read."""
    assert bool(re.match(pattern, worker.node) if pattern != "fee[" else None) == is_match
    app.control.broadcast("revoke", arguments={"task_id": ["named " + pattern]}, pattern=pattern, matcher="pcre")
    def is_revoked():
        return "named " + pattern in app.control.inspect(destination=[worker.node], timeout=10).revoked()[worker.node]
    assert wait_for(is_revoked, "it was meant", 60) if is_match else not is_revoked()


def test_nodes_that_expressions_and_globs_name(cluster, app, worker):
    """Of several nodes those that it names answer, and no other obeys; one that would take for ever is given up at once, and said."""
    others = [cluster.job(node=f"{name}@test") for name in ("green-1", "green-2", "a" * 60)]
    one, two, many = [other.node for other in others]
    inspect = app.control.inspect(destination=[worker.node, one, two, many], timeout=30)

    def obeyed(ident):
        return sorted(node for node, ids in inspect.revoked().items() if ident in ids)

    for pattern, matcher, expected in ((r"green-(?!2)\d+@", "pcre", [one]), (r"(?P<colour>g[re]+?n)-\d(?=@)", "pcre", [one, two]),
                                       (r"feed\d+@(?!example)", "pcre", [worker.node]), (r"reen-\d", "pcre", []), (r"(a+)+$", "pcre", []),
                                       ("green-*", "glob", [one, two]), ("reen*", "glob", [])):
        named = {"pattern": pattern, "matcher": matcher}
        if expected:
            assert sorted(node for answer in app.control.ping(timeout=30, limit=len(expected), **named) for node in answer) == expected
        app.control.broadcast("revoke", arguments={"task_id": [str(named)]}, **named)
        wait_for(lambda: set(expected) <= set(obeyed(str(named))), f"{pattern} was read", 60)
        assert obeyed(str(named)) == expected, pattern
    others[2].wait_logged("not understood.*match limit", 60)
    assert not worker.logged("not understood.*match limit"), "on a short name it is soon done"
    for other in others:
        assert other.stop() == 0


def test_stats(app, worker, inspect):
    app.send_task("add", [1, 2]).get(timeout=30)
    stats = inspect.stats()[worker.node]
    assert stats["total"]["add"] >= 1 and stats["pid"] == worker.pid
    assert stats["pool"]["max-concurrency"] == 4 and len(stats["pool"]["processes"]) == 4
    assert stats["broker"]["heartbeat"] == 20 and stats["broker"]["transport"] == "amqp" and "feed:feed" not in str(stats)
    assert stats["rusage"]["maxrss"] > 0 and stats["prefetch_count"] == 16


def test_registered_queues_conf_clock_report(worker, inspect):
    assert {"add", "echo", "sleep"} <= set(inspect.registered()[worker.node])
    queue = inspect.active_queues()[worker.node][0]
    assert queue["name"] == queue["routing_key"] == "celery" and queue["exchange"]["type"] == "direct"
    assert inspect.conf()[worker.node]["task_acks_late"] is True
    before = inspect.clock()[worker.node]["clock"]
    assert inspect.clock()[worker.node]["clock"] > before
    assert "feedmill" in inspect.report()[worker.node]["ok"]
    assert inspect.scheduled() == {worker.node: []}
    assert inspect.memsample()[worker.node]


def test_active_reserved_and_query(app, worker, inspect):
    results = [app.send_task("sleep", [3], {}) for _ in range(6)]
    active = wait_for(lambda: len(a := inspect.active()[worker.node]) == 4 and a, "four run")
    assert active[0]["name"] == "sleep" and active[0]["args"] == [3] and active[0]["delivery_info"]["routing_key"] == "celery"
    assert len(inspect.reserved()[worker.node]) == 2
    states = inspect.query_task(*[r.id for r in results])[worker.node]
    assert sorted(state for state, _ in states.values()) == ["active"] * 4 + ["reserved"] * 2
    assert [r.get(timeout=30) for r in results] == [3] * 6


def test_revoke_what_waits_and_what_comes(app, worker, inspect):
    running = [app.send_task("sleep", [2]) for _ in range(4)]
    waiting = app.send_task("add", [1, 2])
    wait_for(lambda: inspect.reserved()[worker.node], "one waits")
    app.control.revoke(waiting.id, reply=True, timeout=5, limit=1)
    with pytest.raises(celery.exceptions.TaskRevokedError):
        waiting.get(timeout=30)
    assert waiting.id in inspect.revoked()[worker.node]
    assert [r.get(timeout=30) for r in running] == [2] * 4
    later = app.send_task("add", [1, 2], countdown=2)
    app.control.revoke(later.id, reply=True, timeout=5, limit=1)
    with pytest.raises(celery.exceptions.TaskRevokedError):
        later.get(timeout=30)


@pytest.mark.parametrize("signal", ["SIGTERM", "KILL"])
def test_terminate(app, worker, inspect, signal):
    result = app.send_task("sleep", [60])
    wait_for(lambda: result.id in [a["id"] for a in inspect.active()[worker.node]], "it runs")
    assert "terminate" in ask(app, worker.node, "revoke", task_id=[result.id], terminate=True, signal=signal)["ok"]
    with pytest.raises(celery.exceptions.TaskRevokedError, match="terminated"):
        result.get(timeout=30)


def test_revoke_by_stamps(app, worker):
    ask(app, worker.node, "revoke_by_stamped_headers", headers={"customer": ["7"]})
    signature = app.signature("add", (1, 2))
    signature.stamp(customer="7")
    with pytest.raises(celery.exceptions.TaskRevokedError):
        signature.apply_async().get(timeout=30)
    signature = app.signature("add", (1, 2))
    signature.stamp(customer="8")
    assert signature.apply_async().get(timeout=30) == 3


def test_a_job_that_runs_is_ended_by_its_stamps(app, worker, inspect):
    """And no other."""
    mine, other = app.signature("sleep", (600,)), app.signature("sleep", (600,))
    mine.stamp(order="ended")
    other.stamp(order="goes on")
    results = [signature.apply_async() for signature in (mine, other)]

    def active():
        return {task["id"] for task in inspect.active()[worker.node]}
    wait_for(lambda: active() == {r.id for r in results}, "both run")
    app.control.revoke_by_stamped_headers({"order": "ended"}, terminate=True, signal="SIGKILL", destination=[worker.node], reply=True, timeout=10)
    with pytest.raises(celery.exceptions.TaskRevokedError, match="terminated"):
        results[0].get(timeout=60)
    assert active() == {results[1].id}
    results[1].revoke(terminate=True, signal="SIGKILL")
    with pytest.raises(celery.exceptions.TaskRevokedError):
        results[1].get(timeout=60)


def test_rate_limit(app, worker):
    assert "new rate limit" in ask(app, worker.node, "rate_limit", task_name="echo", rate_limit="2/s")["ok"]
    began = time.monotonic()
    [r.get(timeout=30) for r in [app.send_task("echo", [n]) for n in range(5)]]
    assert time.monotonic() - began >= 1.9
    assert "disabled" in ask(app, worker.node, "rate_limit", task_name="echo", rate_limit=None)["ok"]
    assert ask(app, worker.node, "rate_limit", task_name="echo", rate_limit="often")["error"]
    assert ask(app, worker.node, "rate_limit", task_name="nobody", rate_limit="1/s") == {"error": "unknown task"}


def test_rate_limits_of_the_settings(make_cluster):
    """In force from the start, one task's does not hold up another's, and control may lift them."""
    cluster = make_cluster()
    worker = cluster.job(rate_limits="echo=1/h, add=2/s")
    app = cluster.app()
    inspect = app.control.inspect(destination=[worker.node], timeout=10)
    wait_for(inspect.ping, "it answers", 60)
    assert {"echo [rate_limit=1/h]", "add [rate_limit=2/s]", "sleep"} <= set(inspect.registered()[worker.node])
    first, second = [app.send_task("echo", [n]) for n in range(2)]
    assert first.get(timeout=60) == 0
    began = time.monotonic()
    assert [r.get(timeout=60) for r in [app.send_task("add", [n, 1]) for n in range(5)]] == [1, 2, 3, 4, 5]
    assert time.monotonic() - began >= 1.99
    assert inspect.query_task(second.id)[worker.node][second.id][0] == "reserved"
    assert "disabled" in ask(app, worker.node, "rate_limit", task_name="echo", rate_limit=None)["ok"]
    assert second.get(timeout=60) == 1


def test_a_rate_limit_that_is_none_ends_the_start(make_cluster):
    cluster = make_cluster()
    worker = cluster.job(rate_limits="add=2/s, echo=often", wait=False)
    assert worker.popen.wait(60) != 0
    assert worker.logged("job.rate_limits, echo: Invalid rate limit string: 'often'"), worker.output()
    cluster.processes.remove(worker)  # that exit status is on purpose


def test_names_of_nodes_are_made_as_celery_makes_them(make_cluster):
    cluster = make_cluster()
    for pattern in ("a-%n.%d.end", "b-%n.%d@%h"):
        cluster.job(node=pattern)
    name = host_format("a-%n.%d.end")
    names = {f"{name}@{socket.gethostname()}", host_format("b-%n.%d@%h")}
    wait_for(lambda: {n for answer in cluster.app().control.ping(timeout=2) for n in answer} == names, f"{names} answer", 60)


def test_a_sign_in_a_nodes_name_that_means_nothing_ends_the_start(make_cluster):
    cluster = make_cluster()
    for pattern in ("feed-%q@test", "feed%"):
        worker = cluster.job(node=pattern, wait=False)
        assert worker.popen.wait(60) != 0
        assert worker.logged("setting job.node: %"), worker.output()
        cluster.processes.remove(worker)  # that exit status is on purpose


def test_time_limit(app, worker):
    assert ask(app, worker.node, "time_limit", task_name="sleep", hard=0.5, soft=None)["ok"]
    with pytest.raises(Exception, match="TimeLimitExceeded"):
        app.send_task("sleep", [60]).get(timeout=30)
    assert ask(app, worker.node, "time_limit", task_name="sleep", hard=None, soft=None)["ok"]


def test_pool_grows_shrinks_and_restarts(app, worker, inspect):
    def pids():
        return inspect.stats()[worker.node]["pool"]["processes"]
    ask(app, worker.node, "pool_grow", n=2)
    wait_for(lambda: len(pids()) == 6, "six children")
    ask(app, worker.node, "pool_shrink", n=2)
    before = wait_for(lambda: len(p := pids()) == 4 and p, "four children")
    ask(app, worker.node, "pool_restart")
    wait_for(lambda: len(p := pids()) == 4 and not set(p) & set(before), "all are new")
    assert "error" in ask(app, worker.node, "autoscale", max=9, min=1)


def test_a_pool_of_threads_neither_grows_nor_shrinks(make_cluster):
    cluster = make_cluster()
    worker = cluster.job(pool="threads", concurrency=2)
    app = cluster.app()
    for verb in ("pool_grow", "pool_shrink"):
        assert "job.concurrency" in ask(app, worker.node, verb, n=1)["error"]
    stats = app.control.inspect(destination=[worker.node], timeout=10).stats()[worker.node]
    assert stats["pool"]["max-concurrency"] == 2 and stats["prefetch_count"] == 8


def test_pool_that_grows_takes_more_of_a_backlog(make_cluster):
    """On the connection that it has: its running jobs stay where they are."""
    cluster = make_cluster()
    worker = cluster.job(concurrency=1, prefetch_multiplier=1)
    app = cluster.app()
    results = [app.send_task("sleep", [600]) for _ in range(8)]
    inspect = app.control.inspect(destination=[worker.node], timeout=10)

    def active():
        return len((inspect.active() or {}).get(worker.node, []))
    wait_for(lambda: active() == 1, "one runs", 60)
    ask(app, worker.node, "pool_grow", n=3)
    wait_for(lambda: active() == 4, "four run", 90)
    assert worker_value(worker, "feedmill_job_reconnects_total") == 0
    ask(app, worker.node, "pool_shrink", n=2)
    wait_for(lambda: inspect.stats()[worker.node]["prefetch_count"] == 2, "two are left", 60)
    app.control.revoke([r.id for r in results], terminate=True, signal="KILL", destination=[worker.node], reply=True, timeout=10)
    wait_for(lambda: active() == 0 and cluster.count("celery") == 0, "none is left", 60)
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3
    assert worker_value(worker, "feedmill_job_reconnects_total") == 0


def test_the_mailbox_is_as_celery_makes_it(cluster, worker):
    """It goes with its worker, and keeps nothing that nobody reads."""
    mailbox = cluster.api("GET", f"queues/{cluster.vhost}/{worker.node}.celery.pidbox")
    assert mailbox["arguments"] == {"x-message-ttl": 300000, "x-expires": 10000}
    assert (mailbox["exclusive"], mailbox["auto_delete"], mailbox["durable"]) == (True, True, False)


def test_unknown_verb_and_garbage(cluster, app, worker):
    assert "KeyError" in ask(app, worker.node, "no_such_verb")["error"]
    with cluster.channel() as channel:
        for body in (b"", b"[]", b"{", b'{"method": 7}', b'{"method": "revoke", "arguments": [1]}', b'{"method": "revoke", "arguments": {"task_id": {"a": 1}}}'):
            channel.basic_publish("celery.pidbox", "", body)
    assert ask(app, worker.node, "ping") == {"ok": "pong"}


def test_older_names_and_seldom_used_verbs(make_cluster):
    cluster = make_cluster()
    worker = cluster.job()
    app = cluster.app()
    inspect = app.control.inspect(destination=[worker.node], timeout=10)
    results = [app.send_task("sleep", [600]) for _ in range(5)]
    wait_for(lambda: len((inspect.active() or {}).get(worker.node, [])) == 4 and inspect.reserved()[worker.node], "four run, one waits", 60)
    ask(app, worker.node, "revoke", task_id="somebody")
    for old, new in (("dump_active", "active"), ("dump_reserved", "reserved"), ("dump_revoked", "revoked"), ("dump_tasks", "registered"), ("dump_conf", "conf")):
        answer = ask(app, worker.node, old)
        assert answer and answer == ask(app, worker.node, new), old
    assert ask(app, worker.node, "dump_schedule") == []
    assert "MB" in inspect.memdump()[worker.node]
    assert "objgraph" in inspect.objgraph()[worker.node]["error"]
    app.control.election("an id", "a topic", "an action")
    assert ask(app, worker.node, "election", id="another", topic="a topic", action=None) is None
    assert ask(app, worker.node, "hello", from_node=worker.node, revoked={}) is None
    assert ask(app, worker.node, "terminate", signal="KILL", task_id="nobody") == {"ok": "terminate: tasks unknown"}
    assert ask(app, worker.node, "terminate", signal="LOUDLY", task_id="nobody") == {"error": "no such signal"}
    ended = ask(app, worker.node, "terminate", signal="KILL", task_id=[r.id for r in results])["ok"]
    assert sum(r.id in ended for r in results) == 4
    for result in results:
        with pytest.raises(celery.exceptions.TaskRevokedError):
            result.get(timeout=60)


def test_an_order_that_is_past_is_not_obeyed(app, worker, inspect):
    """It says until when it is worth something: it may have lain in the mailbox of a worker that stood still."""
    app.control.revoke("too late", destination=[worker.node], timeout=-60)
    app.control.revoke("in time", destination=[worker.node], timeout=60, reply=True)
    revoked = inspect.revoked()[worker.node]
    assert "in time" in revoked and "too late" not in revoked


def test_no_control_leaves_the_mailbox_closed(make_cluster):
    """Nobody is answered or obeyed; jobs run."""
    cluster = make_cluster()
    worker = cluster.job(control="none")
    app = cluster.app()
    assert app.send_task("add", [1, 2]).get(timeout=60) == 3
    assert not app.control.inspect(timeout=2).ping()
    app.control.shutdown()
    revoked = app.send_task("add", [2, 2], countdown=1)
    app.control.revoke(revoked.id)
    assert revoked.get(timeout=60) == 4 and worker.running()
    names = [queue["name"] for queue in cluster.api("GET", f"queues/{cluster.vhost}")]
    assert "celery" in names and not [name for name in names if worker.node in name and "pidbox" in name]


def test_control_that_may_only_look(make_cluster):
    cluster = make_cluster()
    worker = cluster.job(control="inspect")
    app = cluster.app()
    assert ask(app, worker.node, "ping") == {"ok": "pong"}
    for verb in ("shutdown", "pool_grow", "add_consumer"):
        assert "job.control" in ask(app, worker.node, verb)["error"]
    assert worker.running()


def test_mingle_and_restart_keep_revokes(make_cluster, tmp_path):
    """One that starts asks the others; one that is alone has its file."""
    cluster = make_cluster(**{"job.mingle": True})
    first = cluster.job(state_file=str(tmp_path / "first"))
    app = cluster.app()
    ask(app, first.node, "revoke", task_id=["revoked-long-ago"])
    second = cluster.job()
    wait_for(lambda: "revoked-long-ago" in app.control.inspect(destination=[second.node], timeout=5).revoked()[second.node], "it was told")
    first.stop()
    second.stop()
    third = cluster.job(state_file=str(tmp_path / "first"))
    assert "revoked-long-ago" in app.control.inspect(destination=[third.node], timeout=5).revoked()[third.node]


def test_durable_revokes_reach_nodes_that_were_away(make_cluster):
    cluster = make_cluster()
    cluster.make_database()
    first = cluster.job(durable_revokes=True)
    app = cluster.app()
    ask(app, first.node, "revoke", task_id=["revoked-in-the-table"])
    wait_for(lambda: cluster.one("SELECT COUNT(*) FROM job_revoked") == 1, "it is in the table")
    first.kill()
    second = cluster.job(durable_revokes=True)
    wait_for(lambda: "revoked-in-the-table" in app.control.inspect(destination=[second.node], timeout=5).revoked()[second.node], "it was read")


@pytest.mark.parametrize("by", ["the table", "another node"])
def test_a_job_that_was_revoked_while_no_worker_was_there_does_not_run(make_cluster, by):
    """What is known of it is heard before the first job is taken."""
    cluster = make_cluster(**{"log.level": "debug", "job.mingle": by == "another node", "job.durable_revokes": by == "the table"})
    cluster.make_database()
    first = cluster.job(queues="others")
    assert by == "the table" or first.logged("looked for other nodes.*found=none")
    app = cluster.app()
    with cluster.channel() as channel:
        channel.queue_declare("celery", durable=True)
    ask(app, first.node, "revoke", task_id=["revoked-before"])
    if by == "the table":
        wait_for(lambda: cluster.one("SELECT COUNT(*) FROM job_revoked") == 1, "it is in the table")
        first.kill()
    results = [app.send_task("echo", [n], task_id="revoked-before" if n == 0 else None) for n in range(3)]
    worker = cluster.job()
    assert by == "the table" or worker.logged("looked for other nodes.*found=some")
    with pytest.raises(celery.exceptions.TaskRevokedError):
        results[0].get(timeout=60)
    assert [r.get(timeout=60) for r in results[1:]] == [1, 2]
    assert worker_value(worker, "feedmill_job_runs_total", 'outcome="done"') == 2


def test_revokes_hold_as_long_as_the_setting_says(make_cluster, tmp_path):
    """A job may be delayed for longer than three hours; and without a file they are forgotten all the same."""
    cluster = make_cluster()
    app = cluster.app()

    def revoked(worker):
        return app.control.inspect(destination=[worker.node], timeout=10).revoked()[worker.node]
    (tmp_path / "state").write_text(json.dumps({"revoked": {"four-hours-ago": [time.time() - 4 * 3600, "four-hours-ago"]}}))
    worker = cluster.job(state_file=str(tmp_path / "state"))
    assert "four-hours-ago" in revoked(worker)
    worker.stop()
    worker = cluster.job(state_file=str(tmp_path / "state"), revokes_kept_s=3600)
    assert "four-hours-ago" not in revoked(worker)
    worker.stop()
    worker = cluster.job(revokes_kept_s=5)
    ask(app, worker.node, "revoke", task_id=["for-a-moment"])
    wait_for(lambda: not revoked(worker), "it is forgotten", 60)


def test_durable_revokes_go_by_the_clock_of_the_database(make_cluster):
    """One that is written late is as new to the others as any: they look for what was written since they last did."""
    cluster = make_cluster()
    cluster.make_database()
    worker = cluster.job(durable_revokes=True)
    app = cluster.app()
    ask(app, worker.node, "revoke", task_id=["first"])
    wait_for(lambda: cluster.one("SELECT COUNT(*) FROM job_revoked") == 1, "the table is there", 60)
    url = dict(host=server("MYSQL_HOST"), port=int(server("MYSQL_PORT")), user=server("MYSQL_USER"), password=server("MYSQL_PASSWORD"))
    with contextlib.closing(pymysql.connect(database=cluster.database, **url)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLES job_revoked WRITE")
        ask(app, worker.node, "revoke", task_id=["written-late"])
        cursor.execute("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)")
        unlocked_at = cursor.fetchone()[0]
        cursor.execute("UNLOCK TABLES")
    wait_for(lambda: cluster.one("SELECT COUNT(*) FROM job_revoked") == 2, "it is written", 60)
    assert cluster.one("SELECT at FROM job_revoked WHERE task_id = 'written-late'") >= unlocked_at


def test_no_more_stamps_than_there_is_room_for(make_cluster):
    cluster = make_cluster()
    worker = cluster.job()
    app = cluster.app()
    with cluster.channel() as channel:
        for n in range(999):
            channel.basic_publish("celery.pidbox", "", json.dumps({"method": "revoke_by_stamped_headers", "arguments": {"headers": {"n": str(n)}}}).encode())
    assert "ok" in ask(app, worker.node, "revoke_by_stamped_headers", headers={"n": "0"})
    assert "ok" in ask(app, worker.node, "revoke_by_stamped_headers", headers={"n": "last"})
    assert "1000" in ask(app, worker.node, "revoke_by_stamped_headers", headers={"n": "one too many"})["error"]


def test_shutdown_verb(make_cluster):
    cluster = make_cluster()
    worker = cluster.job()
    cluster.app().control.shutdown(destination=[worker.node])
    assert worker.popen.wait(30) == 0


# ---- events

class Listener:
    """celery events: what an unmodified receiver makes of what we send."""

    def __init__(self, app):
        self.app, self.events, self.state = app, [], app.events.State()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        wait_for(lambda: self.events, "a heart beats")

    def run(self):
        with self.app.connection() as connection:
            self.receiver = self.app.events.Receiver(connection, handlers={"*": self.take})
            self.receiver.capture(limit=None, timeout=None, wakeup=True)

    def take(self, event):
        self.state.event(event)
        self.events.append(event)

    def of(self, ident):
        return [e["type"] for e in list(self.events) if e.get("uuid") == ident]

    def stop(self):
        self.receiver.should_stop = True


@pytest.fixture
def listener(app, worker):
    listener = Listener(app)
    yield listener
    listener.stop()


def test_events_of_tasks(app, worker, listener):
    assert "enabled" in ask(app, worker.node, "enable_events")["ok"]
    good, bad, odd = app.send_task("add", [1, 2]), app.send_task("fail", ["boom"]), app.send_task("flaky", [1])
    good.get(timeout=30)
    wait_for(lambda: listener.of(good.id) == ["task-received", "task-started", "task-succeeded"], "events of one that succeeds")
    wait_for(lambda: listener.of(bad.id) == ["task-received", "task-started", "task-failed"], "events of one that fails")
    wait_for(lambda: listener.of(odd.id)[-1:] == ["task-succeeded"] and "task-retried" in listener.of(odd.id), "events of one that is tried again")
    task = listener.state.tasks[good.id]
    assert (task.name, task.args, task.result, task.state, task.worker.hostname) == ("add", "[1, 2]", "3", "SUCCESS", worker.node)
    assert listener.state.tasks[bad.id].exception == "ValueError('boom')"
    revoked = app.send_task("add", [1, 2], countdown=1)
    revoked.revoke()
    wait_for(lambda: "task-revoked" in listener.of(revoked.id), "event of one that is revoked")
    assert "disabled" in ask(app, worker.node, "disable_events")["ok"]
    quiet = app.send_task("add", [1, 2])
    quiet.get(timeout=30)
    ask(app, worker.node, "heartbeat")
    assert listener.of(quiet.id) == []


def test_events_of_workers(cluster, app, listener):
    worker = cluster.job()
    wait_for(lambda: [e for e in listener.events if e["type"] == "worker-online" and e["hostname"] == worker.node], "it is online")
    beat = wait_for(lambda: [e for e in listener.events if e["type"] == "worker-heartbeat" and e["hostname"] == worker.node], "its heart beats")[0]
    assert beat["freq"] == 2.0 and beat["pid"] == worker.pid and len(beat["loadavg"]) == 3 and beat["sw_ident"] == "feedmill"
    assert listener.state.workers[worker.node].alive
    worker.stop()
    wait_for(lambda: [e for e in listener.events if e["type"] == "worker-offline" and e["hostname"] == worker.node], "it is offline")


# ---- the tools

def test_celerys_own_command_line(cluster, app, worker):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "celery", "-b", cluster.url, *arguments], capture_output=True, text=True, timeout=60).stdout
    assert "pong" in run("inspect", "ping", "-d", worker.node)
    assert worker.node in run("status")
    assert "new rate limit" in run("control", "-d", worker.node, "rate_limit", "add", "100/s")
    assert "disabled" in run("control", "-d", worker.node, "rate_limit", "add", "0")
    assert "flagged as revoked" in run("control", "-d", worker.node, "revoke_by_stamped_headers", "order=1", "customer=first", "order=2=3")
    assert "is no name=value" in str(ask(app, worker.node, "revoke_by_stamped_headers", headers=["order"]))
    for stamps, is_revoked in (({"order": "2=3"}, True), ({"customer": "first"}, True), ({"order": "1"}, False)):
        signature = app.signature("add", (1, 2))
        signature.stamp(**stamps)
        result = signature.apply_async()
        result.get(timeout=60, propagate=False)
        assert result.state == ("REVOKED" if is_revoked else "SUCCESS")
