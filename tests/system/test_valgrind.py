"""Each program starts, works and stops under valgrind, over the servers and over files: no wrong access, no value that was never
set, no leak."""
import concurrent.futures
import subprocess

import celery
import pytest

from embedded import EmbeddedFeedmill
from feedmill import BUILD, ROOT, Client, Feedmill, server, wait_for
from rabbit import Subscriber, VirtualHost
from test_up import Up

FOUND = 99
VALGRIND = ["valgrind", "--quiet", f"--error-exitcode={FOUND}", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect,possible",
            "--show-leak-kinds=definite,indirect,possible", "--num-callers=30", "--fair-sched=yes", "--trace-children=no",
            f"--suppressions={ROOT / 'tests/valgrind.supp'}"]

pytestmark = [pytest.mark.once,
              pytest.mark.skipif(any(word in (BUILD / "feedctl").read_bytes() for word in (b"__asan_init", b"__tsan_init")), reason="two checkers in one process")]


@pytest.fixture(params=["servers", "embedded"])
def feed(request, folder):
    """A long session: what runs under valgrind has no time for heartbeats."""
    with VirtualHost() as vhost:
        feed = (EmbeddedFeedmill if request.param == "embedded" else Feedmill)(folder, **{
            "kafka.session_timeout_ms": 45000, "amqp.url": vhost.url, "redis.url": server("REDIS_URL"),
            "relay.exchange": vhost.name, "relay.channel": vhost.name, "job.concurrency": 1, "job.mingle": False})
        feed.workers += ("relay", "job")
        feed.vhost = vhost
        try:
            yield feed
        finally:
            feed.stop()


def work(feed, client):
    author, reader = client.participant("author"), client.participant("reader")
    client.befriend(author, reader)
    posts = [client.say(author, f"story {number}, with a word that is searched for", "subject") for number in range(20)]
    wait_for(lambda: len(client.inbound(reader)) == len(posts), "the posts at the reader", 60)
    wait_for(lambda: client.search("searched") == [f"/participant/{author}"] and feed.lag("index") == 0, "the posts in the index", 60)
    assert len(client.outbound(author)) == len(posts)
    events = Subscriber(feed.vhost.url, exchange=feed.vhost.name)
    product = client.ok("POST", "/products", {"name": "a thing", "price": 1.5})["id"]
    assert client.ok("DELETE", f"/products/{product}") == {"status": "deleted"}
    wait_for(lambda: len(events.take()) >= 2, "both events of the product", 60)
    events.close()
    jobs = celery.Celery("valgrind", broker=feed.vhost.url, backend="rpc://", set_as_current=False)
    assert jobs.send_task("add", [1, 2]).get(timeout=60) == 3
    jobs.close()
    assert client.get("/participant/999999999").status_code == 404
    for wrong in ('{"name": 5}', "{", "[" * 5000, b"\xff"):
        assert 400 <= client.post("/participant", data=wrong, headers={"Content-Type": "application/json"}).status_code < 500
    feed.produce("feed.posts", b"no JSON", key="1")
    wait_for(lambda: "no JSON" in feed.ctl("tail", "fanout.dlq", "--from-beginning", "--count", "1", "--timeout", "60").stdout, "the dead letter", 60)
    return author


def operate(feed, *verbs):
    """Each a code and the words of feedctl, two at a time."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda words: feed.ctl(*words[1:], under=VALGRIND, check=False, config=feed.config), verbs))
    for words, each in zip(verbs, done):
        assert each.returncode == words[0], (words, each.returncode, each.stdout + each.stderr)


@pytest.mark.parametrize("feed", ["embedded"], indirect=True)
def test_every_worker_is_among_them(feed):
    listed = subprocess.run([BUILD / "feed-worker", "--list"], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in listed.splitlines()] + ["job"] == list(feed.workers)  # which reads no topic, and is not listed


@pytest.mark.timeout(300)
def test_programs(feed):
    """Feedmill.stop() asks for exit codes 0; what valgrind found is in the log that it shows."""
    operate(feed, (0, "migrate"))
    operate(feed, (0, "topics"))
    workers = [feed.worker(name, under=VALGRIND, wait=False) for name in feed.workers]
    gateway = feed.gateway(under=VALGRIND, wait=False)
    for process in (gateway, *workers):
        process.wait_logged(r"event=(listening|ready)\b", 120)
        process.wait_ready()
    author = work(feed, Client(gateway.url))
    feed.write_config(**{name: url.removeprefix("http://") for name, url in (("gateway.listen", gateway.url), ("gateway.admin", gateway.admin))})
    operate(feed, (0, "lag", "--partitions"), (0, "tail", "feed.posts", "--from-beginning", "--count", "1", "--timeout", "60"),
            (0, "dlq", "list", "fanout"), (0, "dlq", "replay", "fanout"), (0, "offsets", "fanout", "show"))
    if isinstance(feed, EmbeddedFeedmill):  # what follows asks no back end
        operate(feed, (0, "config", "show"), (0, "config", "check"), (0, "health"), (1, "health", "127.0.0.1:1"),
                (0, "post", author, "by feedctl", "a story", "--wait", "20"), (0, "story"), (2, "no such verb"))
    for process in feed.processes:
        process.ask_to_stop()
    for process in feed.processes:
        assert process.stop() == 0, process.output()[-6000:]
    operate(feed, (0, "dlq", "purge", "all", "--to", "end", "--yes"), (0, "offsets", "chunk", "set", "end"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("feed", ["embedded"], indirect=True)
def test_up(feed):
    feed.prepare()
    up = feed._start(Up, "up", "feedctl", "up", before=VALGRIND).wait_ready()
    Client(up.url).participant()
    up.roll()
    assert up.stop() == 0, up.output()[-6000:]


def test_valgrind_finds(tmp_path):
    """The check itself: a leak ends with the code that the others would fail by."""
    source = tmp_path / "leak.c"
    source.write_text("#include <stdlib.h>\nint main(void) { void *volatile p = malloc(7); p = NULL; return p != NULL; }\n")
    subprocess.run(["cc", "-o", tmp_path / "leak", source], check=True)
    assert subprocess.run([*VALGRIND, tmp_path / "leak"], capture_output=True).returncode == FOUND
