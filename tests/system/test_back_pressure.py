"""Kafka goes away under load: what is certainly not stored is told at once, what nobody knows names its command, memory stays
bounded, and all goes on when it is back, without a restart."""
import concurrent.futures
import threading
import time

import pytest
import requests

import kafka_proxy
from expect import problem
from feedmill import BUILD, Client, memory_kib, server, wait_for
from kafka_proxy import KafkaProxy

pytestmark = pytest.mark.servers("Kafka, which goes away")

WAIT_S = 20     # gateway.wait_ms of these tests: what is told "at once" is told long before


@pytest.fixture
def way(request):
    proxy = KafkaProxy(server("KAFKA_BROKERS"))
    request.addfinalizer(proxy.close)
    return proxy


@pytest.fixture
def make_crowd(make_feed, way):
    """A gateway whose Kafka is behind a proxy, workers whose Kafka is not, an author and a friend."""
    def make(**settings):
        feed = make_feed(kafka__message_timeout_ms=60000, **settings).prepare()
        workers = [feed.worker(name, wait=False) for name in ("command", "fanout", "chunk")]
        through = feed.write_config(feed.folder / f"{feed.name}-proxy.cfg", **{"kafka.brokers": way.address})
        feed.edge = feed.gateway(config=through)
        for worker in workers:
            worker.wait_ready()
        feed.client = Client(feed.edge.url)
        feed.author, feed.friend = feed.client.participant(), feed.client.participant()
        feed.client.befriend(feed.author, feed.friend)
        return feed
    return make


def is_ready(feed):
    return requests.get(feed.edge.admin + "/readyz", timeout=10).status_code == 200


def post(feed, story):
    began = time.monotonic()
    answer = Client(feed.edge.url).post(f"/participant/{feed.author}/outbound", {"subject": "s", "story": story})
    return story, answer, time.monotonic() - began


def check_answers(feed, answers):
    """After quiet: 200 is there once, 503 is not there, and of a 504 the command tells."""
    wait_for(lambda: feed.metric(feed.edge, "feedmill_gateway_pending") == 0, "all are answered")
    stories = [story for story, answer, _ in answers]
    accepted = {story for story, answer, _ in answers if answer.status_code == 200}

    def outcomes():
        """True when none is on its way any more: what is stored is in the topic, and what is in the topic is fanned out."""
        return feed.lag("fanout") == 0
    wait_for(lambda: accepted <= {row[0] for row in feed.sql("SELECT story FROM outbound")} and outcomes(), "all that was stored is there", 90)
    there = [row[0] for row in feed.sql("SELECT story FROM outbound")]
    assert len(there) == len(set(there)) and set(there) <= set(stories)
    for story, answer, _ in answers:
        if answer.status_code == 503:
            problem(answer, 503, "nothing was stored")
            assert story not in there
        elif answer.status_code == 504:
            problem(answer, 504, "/commands/")
            assert "Retry-After" not in answer.headers
            status = feed.client.ok("GET", answer.headers["Location"])["status"]
            assert status == ("done" if story in there else "pending"), story
        else:
            assert answer.status_code == 200, answer.text
    inbox = [row[0] for row in feed.sql("SELECT post_id FROM inbound WHERE participant_id = %s", feed.friend)]
    assert len(inbox) == len(set(inbox)) == len(there)


def test_kafka_is_cut_off_under_load(make_crowd, way):
    feed = make_crowd(gateway__wait_ms=WAIT_S * 1000)
    answers, stop = [], threading.Event()

    def load(n):
        count = 0
        while not stop.is_set():
            count += 1
            answers.append(post(feed, f"story {n}.{count}"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        running = [pool.submit(load, n) for n in range(8)]
        try:
            wait_for(lambda: len(answers) > 50, "posts are taken")
            way.cut()
            wait_for(lambda: not is_ready(feed), "it says that it is not ready")
            seen = len(answers)
            wait_for(lambda: len(answers) > seen + 100, "they are refused")
            way.restore()
            wait_for(lambda: is_ready(feed), "it is ready again, by itself", 60)
            seen = len(answers)
            wait_for(lambda: len(answers) > seen + 50, "posts are taken again")
        finally:
            stop.set()
        for job in running:
            job.result(60)
    refused = [took for _, answer, took in answers if answer.status_code == 503]
    assert len(refused) > 50 and max(refused) < WAIT_S / 2, "what is not stored is not waited for"
    assert sum(answer.status_code == 200 for _, answer, _ in answers) > 100
    assert feed.edge.running()
    check_answers(feed, answers)


@pytest.mark.parametrize("comes_back", [True, False])
def test_what_is_under_way_when_kafka_goes_away(make_crowd, way, comes_back):
    """Nobody knows: 504, which names the command. Kafka may have it, or get it when it is back within kafka.message_timeout_ms."""
    feed = make_crowd(gateway__wait_ms=2000)
    way.hold()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        running = [pool.submit(post, feed, f"story {n}") for n in range(20)]
        wait_for(lambda: feed.metric(feed.edge, "feedmill_gateway_pending") >= 20, "they wait for their reports")
        way.cut()
        answers = [job.result() for job in running]
    assert {answer.status_code for _, answer, _ in answers} == {504}
    assert len({answer.headers["Location"] for _, answer, _ in answers}) == 20
    wait_for(lambda: not is_ready(feed), "it says that it is not ready")
    if comes_back:
        way.restore()
        wait_for(lambda: is_ready(feed), "it is ready again", 60)
        wait_for(lambda: all(feed.client.ok("GET", answer.headers["Location"])["status"] == "done" for _, answer, _ in answers),
                 "the same records were stored after all", 60)
    else:
        feed.edge.kill()
        feed.edge = feed.gateway()
        feed.client = Client(feed.edge.url)
    check_answers(feed, answers)


def test_memory_is_bounded_while_kafka_is_silent(make_crowd, way):
    """27 MB of posts, more than the queue takes: what finds no room is told at once."""
    feed = make_crowd(gateway__wait_ms=WAIT_S * 1000)
    before = memory_kib(feed.edge.pid, "Rss")
    way.hold()
    filler = "x" * 60000
    with concurrent.futures.ThreadPoolExecutor(450) as pool:
        running = [pool.submit(post, feed, f"{n} {filler}") for n in range(450)]
        answers = [job.result() for job in running]
        grown = (memory_kib(feed.edge.pid, "Rss") - before) / 1024
    refused = [took for _, answer, took in answers if answer.status_code == 503]
    if not any(word in (BUILD / "feed-gateway").read_bytes() for word in (b"__asan_init", b"__tsan_init")):  # whose memory is their own
        assert grown < 64, f"{grown:.0f} MiB more"
    assert len(refused) >= 100 and sorted(refused)[len(refused) // 2] < WAIT_S / 2, "the queue holds 16 MiB, and says so"
    way.restore()
    wait_for(lambda: is_ready(feed), "it is ready again", 60)
    feed.client.say(feed.author, "afterwards")


@pytest.mark.parametrize("api, error", [(kafka_proxy.PRODUCE, kafka_proxy.OUT_OF_ORDER_SEQUENCE_NUMBER),
                                        (kafka_proxy.INIT_PRODUCER_ID, kafka_proxy.CLUSTER_AUTHORIZATION_FAILED)])
def test_a_fatal_error_makes_a_new_producer(make_crowd, way, api, error):
    """The broker's word ends librdkafka's producer for good; the gateway makes another, and clients see nothing of it. The record
    was stored, and is sent again: it has its effect once."""
    if api == kafka_proxy.INIT_PRODUCER_ID:
        way.lie(api, error)
    feed = make_crowd(gateway__wait_ms=WAIT_S * 1000)
    before = sum(feed.ends("feed.posts"))
    if api == kafka_proxy.PRODUCE:
        way.lie(api, error)
    first = feed.client.say(feed.author, "when it happened")
    wait_for(lambda: feed.metric(feed.edge, "feedmill_queue_producers_replaced_total") == 1, "the producer was replaced")
    wait_for(lambda: is_ready(feed), "it is ready again")
    second = feed.client.say(feed.author, "afterwards", headers={"Prefer": "wait=30"})
    assert feed.edge.logged("kafka producer replaced") and feed.edge.running()
    assert sum(feed.ends("feed.posts")) - before == (3 if api == kafka_proxy.PRODUCE else 2)
    wait_for(lambda: len(feed.client.inbound(feed.friend)) == 2 and feed.lag("fanout") == 0, "both are there")
    assert [row["id"] for row in feed.client.inbound(feed.friend)] == [second, first]
