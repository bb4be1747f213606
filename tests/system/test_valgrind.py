"""Each program starts, works and stops under valgrind: no wrong access, no value that was never set, no leak."""
import concurrent.futures
import subprocess

import pytest

from feedmill import BUILD, ROOT, Client, wait_for

FOUND = 99
VALGRIND = ["valgrind", "--quiet", f"--error-exitcode={FOUND}", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect,possible",
            "--show-leak-kinds=definite,indirect,possible", "--num-callers=30", "--fair-sched=yes", "--trace-children=no",
            f"--suppressions={ROOT / 'tests/valgrind.supp'}"]
WORKERS = ("command", "fanout", "chunk", "index")

pytestmark = pytest.mark.skipif(any(word in (BUILD / "feedctl").read_bytes() for word in (b"__asan_init", b"__tsan_init")),
                                reason="two checkers in one process")


def work(feed, client):
    author, reader = client.participant("author"), client.participant("reader")
    client.befriend(author, reader)
    posts = [client.say(author, f"story {number}, with a word that is searched for", "subject") for number in range(20)]
    wait_for(lambda: len(client.inbound(reader)) == len(posts), "the posts at the reader", 60)
    wait_for(lambda: feed.documents() == len(posts), "the posts in the index", 60)
    assert len(client.search("searched")) > 0 and len(client.outbound(author)) == len(posts)
    product = client.ok("POST", "/products", {"name": "a thing", "price": 1.5})["id"]
    assert client.ok("DELETE", f"/products/{product}") == {"status": "deleted"}
    assert client.get("/participant/999999999").status_code == 404
    for wrong in ('{"name": 5}', "{", "[" * 5000, b"\xff"):
        assert 400 <= client.post("/participant", data=wrong, headers={"Content-Type": "application/json"}).status_code < 500
    feed.produce("feed.posts", b"no JSON", key="1")
    feed.records("fanout.dlq", lambda records: len(records) == 1)


@pytest.mark.timeout(150)
def test_gateway_and_workers(make_feed):
    """Feedmill.stop() asks for exit codes 0; what valgrind found is in the log that it shows."""
    feed = make_feed(kafka__session_timeout_ms=45000).prepare()
    workers = [feed.worker(name, under=VALGRIND, wait=False) for name in WORKERS]
    gateway = feed.gateway(under=VALGRIND)
    for worker in workers:
        worker.wait_ready()
    work(feed, Client(gateway.url))
    for process in feed.processes:
        process.ask_to_stop()
    for process in feed.processes:
        assert process.stop() == 0, process.output()[-6000:]


@pytest.mark.timeout(100)
def test_feedctl(make_feed):
    feed = make_feed()
    feed.ctl("migrate", under=VALGRIND)
    feed.ctl("topics", under=VALGRIND)
    more = [("lag",), ("config", "show"), ("tail", "feed.posts", "--from-beginning", "--count", "1", "--timeout", "30"), ("health", "127.0.0.1:1")]
    feed.produce("feed.posts", b"something")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda words: feed.ctl(*words, under=VALGRIND, check=False), more))
    assert [each.returncode for each in done] == [0, 0, 0, 1], [each.stdout + each.stderr for each in done]


def test_valgrind_finds(tmp_path):
    """The check itself: a leak ends with the code that the others would fail by."""
    source = tmp_path / "leak.c"
    source.write_text("#include <stdlib.h>\nint main(void) { void *volatile p = malloc(7); p = NULL; return p != NULL; }\n")
    subprocess.run(["cc", "-o", tmp_path / "leak", source], check=True)
    assert subprocess.run([*VALGRIND, tmp_path / "leak"], capture_output=True).returncode == FOUND
