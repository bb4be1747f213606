"""What is answered while a server is away: 503 when nothing is stored, 504 when nobody knows, and work as usual after."""
import concurrent.futures
import os
import signal
import time

import pytest
import requests

from expect import problem
from feedmill import Client, server, wait_for
from proxy import Proxy

pytestmark = pytest.mark.servers("one that is away")


@pytest.fixture
def database(request):
    proxy = Proxy(server("MYSQL_HOST"), server("MYSQL_PORT"))
    request.addfinalizer(proxy.close)
    return proxy


def test_database_away(make_feed, database):
    feed = make_feed(mysql__port=database.port).prepare()
    gateway = feed.gateway()
    worker = feed.worker("command")
    client = Client(gateway.url)
    author = client.participant()
    database.cut()
    problem(client.get("/participant/4711"), 503)
    problem(client.post("/participant/4711/outbound", {"subject": "s", "story": "s"}), 503)
    problem(client.get("/products"), 503)
    post = client.say(author, "a known author needs Kafka alone")
    pending = client.post("/products", {"name": "waits", "price": 1}, headers={"Prefer": "wait=1"})
    assert pending.status_code == 202
    database.restore()
    wait_for(lambda: client.get("/products").status_code == 200, "lists are answered again")
    wait_for(lambda: client.ok("GET", pending.headers["Location"])["status"] == "done", "the command is done, unaided")
    feed.worker("fanout")
    wait_for(lambda: [row["id"] for row in client.outbound(author)] == [post], "the post is there")
    assert worker.running()


def test_database_that_is_silent_holds_no_http_thread(make_feed, database):
    feed = make_feed(mysql__port=database.port, mysql__read_timeout_ms=3000, mysql__lock_wait_s=2, gateway__readers=2, gateway__reader_queue=4).prepare()
    client = Client(feed.gateway().url)
    database.hold()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(Client(client.url).get, "/products") for _ in range(12)]
        assert client.get("/nothing").status_code == 404, "answered at once"
        for answer in asked:
            problem(answer.result(), 503)
    database.restore()
    wait_for(lambda: client.get("/products").status_code == 200, "lists are answered again")


def test_commands_are_answered_in_time_while_the_database_hangs(make_feed, database):
    """The last look at the ledger is left out when it can't begin soon; and a stop waits for no server that hangs."""
    feed = make_feed(mysql__port=database.port, gateway__wait_ms=1000, worker__drain_timeout_ms=3000).prepare()
    gateway = feed.gateway()
    url = gateway.url

    def ask(method, path, body=None, **more):
        began = time.monotonic()
        return Client(url).ask(method, path, body, **more), time.monotonic() - began

    def ask_many(pool, *what, **more):
        return [pool.submit(ask, *what, **more) for _ in range(20)]
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        Client(url).ok("GET", "/products")
        database.hold()
        commands, lists = ask_many(pool, "POST", "/products", {"name": "p", "price": 1}), ask_many(pool, "GET", "/products")
        answers = [job.result() for job in commands]
        assert {answer.status_code for answer, _ in answers} == {202}
        assert all(answer.headers["Location"].startswith("/commands/") for answer, _ in answers)
        assert max(took for _, took in answers) < 8, "a wait of 1 s, and what a reader may hang on"
        assert sorted(took for _, took in answers)[10] < 4
        for job in lists:
            problem(job.result()[0], 503)
            assert job.result()[1] < 8
        waiting = ask_many(pool, "POST", "/products", {"name": "p", "price": 1}, headers={"Prefer": "wait=30"})
        wait_for(lambda: feed.metric(gateway, "feedmill_gateway_pending") == 20, "they wait")
        began = time.monotonic()
        gateway.ask_to_stop()
        assert {job.result()[0].status_code for job in waiting} == {202}, "each has its answer before the end"
        gateway.popen.wait(30)
        assert time.monotonic() - began < 3 + 8, "the drain, then what is left by its own limits"
    assert gateway.popen.returncode == 0
    database.restore()


def test_stop_while_the_database_hangs_under_long_waits(make_feed, database):
    feed = make_feed(mysql__port=database.port, gateway__wait_ms=50000, mysql__connect_timeout_ms=60000, mysql__read_timeout_ms=60000,
                     worker__drain_timeout_ms=1000).prepare()
    gateway = feed.gateway()
    client = Client(gateway.url)
    client.ok("GET", "/products")
    database.hold()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        hung = pool.submit(client.get, "/products")
        wait_for(lambda: feed.metric(gateway, "feedmill_gateway_reads") == 1, "it is with a reader")
        began = time.monotonic()
        gateway.ask_to_stop()
        gateway.popen.wait(40)
        assert time.monotonic() - began < 12, "1 s of drain, and no timeout of 50 s"
        with pytest.raises(requests.ConnectionError):
            hung.result()
    assert gateway.popen.returncode == 0 and gateway.logged("not waited for a server")
    database.restore()


def test_search_away(make_feed):
    proxy = Proxy(*server("SEARCH_URL").removeprefix("http://").split(":"))
    feed = make_feed(search__url=f"http://127.0.0.1:{proxy.port}").prepare()
    gateway = feed.gateway()
    workers = [feed.worker(name) for name in ("command", "fanout", "index")]
    client = Client(gateway.url)
    author = client.participant()
    proxy.cut()
    problem(client.get("/outbound?keywords=x"), 503)
    post = client.say(author, "phascogale")
    wait_for(lambda: [row["id"] for row in client.outbound(author)] == [post], "posts go on")
    ready = requests.get(gateway.admin + "/readyz", timeout=10)
    assert ready.status_code == 200, "search away is shown, not fatal"
    proxy.restore()
    wait_for(lambda: feed.documents() == 1, "indexed after the outage", 60)
    assert client.search("phascogale") == [f"/participant/{author}"]
    assert all(worker.running() for worker in workers)
    proxy.close()


def test_kafka_never_there_is_503(make_feed):
    feed = make_feed().prepare()
    away = feed.write_config(feed.folder / f"{feed.name}-away.cfg", **{"kafka.brokers": "127.0.0.1:1"})
    gateway = feed.gateway(config=away, wait=False)
    gateway.ready_line()
    client = Client(gateway.url)
    assert requests.get(gateway.admin + "/readyz", timeout=10).status_code == 503
    problem(client.post("/products", {"name": "x", "price": 1}), 503)
    wait_for(lambda: client.get("/products").status_code == 200, "reading needs no Kafka")


@pytest.mark.alone
def test_kafka_silent_is_504_and_the_command_tells(make_feed):
    feed = make_feed(gateway__wait_ms=1000, kafka__session_timeout_ms=45000, mysql__idle_transaction_s=8).start()
    client = feed.client
    author, reader = client.participant(), client.participant()
    client.befriend(author, reader)
    broker = int(server("KAFKA_PID"))
    os.kill(broker, signal.SIGSTOP)
    try:
        post = client.post(f"/participant/{author}/outbound", {"subject": "s", "story": "unknown"})
        product = client.post("/products", {"name": "unknown", "price": 1})
    finally:
        os.kill(broker, signal.SIGCONT)
    for answer in (post, product):
        problem(answer, 504, "/commands/")
        assert answer.headers["Location"].startswith("/commands/") and "Retry-After" not in answer.headers
        wait_for(lambda: client.ok("GET", answer.headers["Location"])["status"] == "done", "it was stored after all", 60)
    assert [row["story"] for row in client.inbound(reader)] == ["unknown"]
    assert [row["name"] for row in client.ok("GET", "/products")] == ["unknown"]
