"""feedctl job: jobs sent, asked for and revoked by an operator, nodes looked at, queues emptied."""
import json
import re
import subprocess
import sys
import time
import uuid

import pytest

from feedmill import BUILD, ROOT, wait_for

pytestmark = pytest.mark.servers("RabbitMQ")


@pytest.fixture
def place(vhost, make_feed):
    """Settings and tables; no worker yet."""
    feed = make_feed(amqp__url=vhost.url, job__results="database", job__concurrency=1, job__mingle=False, job__node="one@test")
    feed.ctl("migrate")
    return feed


def job(feed, *words, **more):
    return feed.ctl("job", *words, **more)


def refused(feed, *words, code=1, **more):
    done = job(feed, *words, check=False, **more)
    assert done.returncode == code and done.stdout == "", (done.returncode, done.stdout, done.stderr)
    return done.stderr


def waiting(vhost, queue="celery"):
    with vhost.connect() as connection:
        return connection.channel().queue_declare(queue, passive=True).method.message_count


def status(feed, ident, *statuses):
    def found():
        state = json.loads(job(feed, "status", ident, check=False).stdout)
        return state["status"] in statuses and state
    return wait_for(found, f"{ident} is {statuses}", 60)


def test_sent_and_asked_for(place):
    place.worker("job")
    ident = job(place, "send", "add", "[2, 3]").stdout.strip()
    assert status(place, ident, "done") == {"id": ident, "status": "done", "result": 5}
    named = job(place, "send", "echo", '{"x": {"a": [1, null, "\U0001f438"]}}').stdout.strip()
    assert status(place, named, "done")["result"] == {"a": [1, None, "\U0001f438"]}
    both = job(place, "send", "add", '{"y": 4}', "[1]").stdout.strip()
    assert status(place, both, "done")["result"] == 5
    failed = job(place, "send", "fail", '["no luck"]').stdout.strip()
    assert status(place, failed, "failed")["error"]["exc_message"] == ["no luck"]
    assert job(place, "status", failed, check=False).returncode == 1, "a failure shows in the exit code"
    unknown = str(uuid.uuid4())
    assert json.loads(job(place, "status", unknown).stdout) == {"id": unknown, "status": "pending"}


@pytest.mark.parametrize("results", ["rpc", "database", "both"])
def test_waited_for(vhost, make_feed, results):
    """By messages or by the table, as the settings say."""
    feed = make_feed(amqp__url=vhost.url, job__results=results, job__concurrency=1, job__mingle=False, job__track_started=True)
    feed.ctl("migrate")
    feed.worker("job")
    assert json.loads(job(feed, "send", "add", "[2, 3]", "--wait", 60).stdout)["result"] == 5
    failed = job(feed, "send", "fail", '["no luck"]', "--wait", 60, check=False)
    assert failed.returncode == 1 and json.loads(failed.stdout)["error"]["exc_type"] == "ValueError"
    late = job(feed, "send", "add", "[1, 1]", "--countdown", 3600, "--wait", 0, check=False)
    assert late.returncode == 1 and json.loads(late.stdout)["status"] == "pending" and "has not ended" in late.stderr


def test_the_message_has_what_was_asked(place, vhost):
    place.worker("job", config=place.write_config(place.folder / "queues.cfg", **{"job.queues": "celery,other"})).stop()   # the queues are there
    before = time.time()
    ident = job(place, "send", "add", "[1]", "--queue", "other", "--countdown", 60, "--expires", 7200, "--priority", 7).stdout.strip()
    job(place, "send", "add", "--eta", "2031-05-06T07:08:09Z")
    with vhost.connect() as connection:
        method, properties, body = connection.channel().basic_get("other", auto_ack=True)
        _, dated, _ = connection.channel().basic_get("celery", auto_ack=True)
    headers = properties.headers
    assert headers["id"] == ident == properties.correlation_id and headers["task"] == "add" and properties.priority == 7
    assert json.loads(body)[:2] == [[1], {}] and not properties.reply_to

    def seconds(text):
        return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert 55 < seconds(headers["eta"]) - before < 180 and 7195 < seconds(headers["expires"]) - before < 7320
    assert dated.headers["eta"].startswith("2031-05-06T07:08:09") and dated.headers["expires"] is None


def test_revoked(place, vhost):
    worker = place.worker("job")
    ident = job(place, "send", "echo", '["never"]', "--countdown", 3600).stdout.strip()
    told = job(place, "revoke", ident, "--node", "one@test", "--timeout", 60).stdout
    assert re.fullmatch(rf'one@test  {{"ok":"tasks {ident} flagged as revoked"}}\n', told), told
    assert status(place, ident, "revoked") == {"id": ident, "status": "revoked"}
    running = job(place, "send", "sleep", "[600]").stdout.strip()
    wait_for(lambda: running in job(place, "inspect", "active", "--node", "one@test", "--timeout", 60).stdout, "it runs", 60)
    assert f"terminate: {running}" in job(place, "revoke", running, "--terminate", "--node", "one@test", "--timeout", 60).stdout
    assert status(place, running, "revoked")
    worker.stop()


def test_nodes_are_looked_at(place, vhost):
    """All nodes of the virtual host answer, each with a line; one that is named answers alone."""
    place.worker("job")
    place.worker("job", config=place.write_config(place.folder / "two.cfg", **{"job.node": "two@test"}))

    def both():
        lines = dict(line.split("  ", 1) for line in job(place, "inspect", "ping", "--timeout", 2, check=False).stdout.splitlines())
        return lines if len(lines) == 2 else None
    assert wait_for(both, "both answer", 60) == {"one@test": '{"ok":"pong"}', "two@test": '{"ok":"pong"}'}
    answers = {}
    for what in ("active", "reserved", "scheduled", "registered", "stats", "active_queues", "revoked", "conf", "report", "clock"):
        line, = job(place, "inspect", what, "--node", "two@test", "--timeout", 60).stdout.splitlines()
        node, text = line.split("  ", 1)
        assert node == "two@test"
        answers[what] = json.loads(text)
    assert answers["active"] == answers["reserved"] == answers["scheduled"] == [] and "add" in answers["registered"]
    assert answers["stats"]["pool"]["max-concurrency"] == 1 and answers["active_queues"][0]["name"] == "celery"
    assert "no node three@test has answered" in refused(place, "inspect", "ping", "--node", "three@test", "--timeout", 1)
    assert "shutdown" in refused(place, "inspect", "shutdown") and "ping" in refused(place, "inspect", "shutdown")


def test_a_python_node_answers_too(place, vhost, tmp_path):
    """An unmodified worker of Celery: asked, and a job of its own done and waited for."""
    (tmp_path / "python_tasks.py").write_text(
        f"import celery\napp = celery.Celery('p', broker='{vhost.url}', backend='rpc://')\n"
        "@app.task(name='twice')\ndef twice(x):\n    return x + x\n")
    log = open(tmp_path / "python.log", "wb")
    python = subprocess.Popen([sys.executable, "-m", "celery", "-A", "python_tasks", "worker", "-n", "python@test", "-P", "solo", "-l", "INFO"],
                              cwd=tmp_path, stdout=log, stderr=log)
    try:
        wait_for(lambda: '"pong"' in job(place, "inspect", "--node", "python@test", "--timeout", 2, check=False).stdout, "it answers", 90)
        config = place.write_config(place.folder / "rpc.cfg", **{"job.results": "rpc"})
        assert json.loads(job(place, "send", "twice", '["ab"]', "--wait", 60, config=config).stdout)["result"] == "abab"
        assert "flagged" in job(place, "revoke", str(uuid.uuid4()), "--node", "python@test", "--timeout", 60).stdout
    finally:
        python.terminate()
        python.wait(60)


def test_purged_when_it_is_sure(place, vhost):
    place.worker("job").stop()
    for n in range(3):
        job(place, "send", "echo", f"[{n}]")
    assert "nothing was deleted" in refused(place, "purge", "celery") and waiting(vhost) == 3
    assert job(place, "purge", "celery", "--yes").stdout == "celery: 3 deleted\n" and waiting(vhost) == 0
    assert job(place, "purge", "celery").stdout == "celery: nothing to delete\n"
    assert "no queue 'nothing'" in refused(place, "purge", "nothing", "--yes")


def test_what_is_wrong_is_said(place, vhost, make_feed):
    assert "there is no queue celery" in refused(place, "send", "echo"), "no worker has made it"
    assert "no job worker listens" in refused(place, "inspect", "ping")
    assert "no job worker listens" in refused(place, "revoke", str(uuid.uuid4()))
    assert "is no JSON" in refused(place, "send", "echo", "[1,]")
    assert "of type number" in refused(place, "send", "echo", "1")
    assert "two arrays" in refused(place, "send", "echo", "[1]", "[2]")
    for wrong in ((), ("paint",), ("send",), ("status",), ("status", "a", "b"), ("revoke",), ("purge",), ("inspect", "ping", "x"), ("send", "echo", "--yes"),
                  ("send", "echo", "--priority", "256"), ("send", "echo", "--countdown", "-1"), ("send", "echo", "--eta", "soon"), ("send", "echo", "--loud"),
                  ("send", ""), ("send", "echo", "--queue", "")):
        refused(place, *wrong, code=2)
    assert "amqp.url" in refused(make_feed(), "inspect")
    away = make_feed(amqp__url="amqp://feed:secretword@127.0.0.1:1", amqp__answer_timeout_ms=1000, job__results="rpc")
    for words in (("send", "echo"), ("inspect",), ("purge", "celery", "--yes")):
        said = refused(away, *words)
        assert "127.0.0.1:1" in said and "secretword" not in said
    assert "job.results is rpc" in refused(away, "status", str(uuid.uuid4()))
    none = make_feed(amqp__url=vhost.url, job__results="none")
    assert "job.results is none" in refused(none, "send", "echo", "--wait", 1)


def test_help_and_completion_know_the_words():
    help_text = subprocess.run([BUILD / "feedctl", "job", "--help"], capture_output=True, text=True, timeout=30).stdout
    for word in ("send NAME", "status ID", "revoke ID", "inspect [WHAT]", "purge QUEUE", "--terminate", "--wait S"):
        assert word in help_text

    def complete(*words):
        script = ('. deploy/completion/feedctl; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _feedctl; printf "%s\\n" "${COMPREPLY[@]}"')
        return subprocess.run(["bash", "-c", script, "-", str(BUILD / "feedctl"), *words], cwd=ROOT, capture_output=True, text=True, timeout=30).stdout.split()
    assert complete("job", "") == ["send", "status", "revoke", "inspect", "purge"]
    assert complete("job", "inspect", "re") == ["reserved", "registered", "revoked", "report"]
    assert {"add", "list", "remove", "test", "enable"} == set(complete("webhook", ""))
    assert "--terminate" in complete("job", "revoke", "x", "--")
