"""Posts, inbound and outbound: contract.md, and what design promises of the fan-out."""
import datetime
import socket
import time

import pytest

from expect import link, problem
from feedmill import Client, wait_for
from texts import STRINGS


def today():
    return datetime.date.today().isoformat()


def arrived(client, reader, post):
    return wait_for(lambda: [row for row in client.inbound(reader) if row["id"] == post], f"post {post} in inbound of {reader}")


def test_flow_of_two_friends(feed, client):
    """Two participants, friends, a post by each, the inbound of each with the right date, a search by word."""
    one, other = client.participant("One"), client.participant("Other")
    client.befriend(one, other)
    before = time.time()
    first = client.ok("POST", f"/participant/{one}/outbound",
                      {"from": link(one), "occurred": "2020-02-29", "subject": "from one", "story": "zyzzyva in the chimney"})
    assert first == {"id": first["id"], "from": link(one), "occurred": "2020-02-29", "subject": "from one", "story": "zyzzyva in the chimney"}
    second = client.say(other, "an umbrella", "from other")
    for author, reader, post, subject, story in ((one, other, first["id"], "from one", "zyzzyva in the chimney"), (other, one, second, "from other", "an umbrella")):
        row, = arrived(client, reader, post)
        posted_at = row.pop("posted_at")
        assert row == {"id": post, "from": link(author), "to": link(reader), "occurred": today(), "subject": subject, "story": story}
        at = datetime.datetime.fromisoformat(posted_at.replace("Z", "+00:00")).timestamp()
        assert before - 1 <= at <= time.time() + 1 and posted_at.endswith("Z")
        assert all(r["id"] != post for r in client.inbound(author)), "the author's own inbound"
        mine, = [r for r in client.outbound(author) if r["id"] == post]
        assert mine == {"id": post, "from": link(author), "occurred": today(), "posted_at": posted_at, "subject": subject, "story": story}

    def found():
        feed.searchable()
        return client.search("zyzzyva")
    assert wait_for(found, "the search finds it") == [link(one)]


def test_fifty_friends_get_it_once(feed, client):
    author, friends = client.participant(), [client.participant() for _ in range(50)]
    for friend in friends:
        client.befriend(author, friend)
    post = client.say(author, "to all fifty")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM inbound WHERE post_id = %s", post) == 50, "50 rows")
    assert {row[0] for row in feed.sql("SELECT participant_id FROM inbound WHERE post_id = %s AND from_id = %s", post, author)} == set(friends)


def test_friend_of_later_gets_no_earlier_post(client):
    author, early, late = (client.participant() for _ in range(3))
    client.befriend(author, early)
    first = client.say(author, "before", headers={"Prefer": "wait=20"})
    arrived(client, early, first)
    client.befriend(author, late)
    second = client.say(author, "after")
    arrived(client, late, second)
    assert [row["id"] for row in client.inbound(late)] == [second]


def test_post_without_friends_is_in_outbound_alone(feed, client):
    author = client.participant()
    post = client.say(author, "nobody listens")
    wait_for(lambda: [row["id"] for row in client.outbound(author)] == [post], "the outbound row")
    assert feed.one("SELECT COUNT(*) FROM inbound WHERE post_id = %s", post) == 0


def test_texts_are_kept_exactly_everywhere(feed, client):
    author, reader = client.participant(), client.participant()
    client.befriend(author, reader)
    posts = {client.say(author, text, text): text for text in STRINGS}
    wait_for(lambda: len(client.inbound(reader)) == len(posts), "all posts")
    for rows in (client.inbound(reader), client.outbound(author)):
        assert {row["id"]: (row["subject"], row["story"]) for row in rows} == {post: (text, text) for post, text in posts.items()}
    assert dict(feed.sql("SELECT id, story FROM outbound WHERE participant_id = %s", author)) == posts


def test_longest_texts(client):
    author, reader = client.participant(), client.participant()
    client.befriend(author, reader)
    story, subject = "😀é" * 32767 + "x", "ü😀" * 2000
    post = client.say(author, story, subject)
    row, = arrived(client, reader, post)
    assert (row["subject"], row["story"]) == (subject, story)
    problem(client.post(f"/participant/{author}/outbound", {"subject": "s", "story": story + "x"}), 400, "at most 65535", pointer="/story")
    problem(client.post(f"/participant/{author}/outbound", {"subject": subject + "x", "story": "s"}), 400, "at most 4000", pointer="/subject")
    assert client.say(author, "", "")


@pytest.mark.parametrize("occurred", ["2020-02-29", "2017-01-01", "2026-01-31T12:00:00Z", "2026-01-31T23:59:59.123+02:00", "2026-01-31t12:00:00z"])
def test_occurred_is_echoed(client, occurred):
    author = client.participant()
    answer = client.ok("POST", f"/participant/{author}/outbound", {"occurred": occurred, "subject": "s", "story": "s"})
    assert answer["occurred"] == occurred


def test_occurred_is_today_when_absent(client):
    author = client.participant()
    assert client.ok("POST", f"/participant/{author}/outbound", {"subject": "s", "story": "s"})["occurred"] == today()


@pytest.mark.parametrize("field, value", [
    ("occurred", "yesterday"), ("occurred", "2021-02-29"), ("occurred", "2020-13-01"), ("occurred", "2020-01-01T25:00:00Z"), ("occurred", "2020-01-01T00:00:00"),
    ("occurred", ""), ("occurred", 20200101), ("occurred", None), ("occurred", "2020-1-1"), ("occurred", "2020-01-01 "),
    ("subject", None), ("subject", 5), ("story", ["x"]), ("story", {}), ("story", True), ("from", 7), ("from", None), ("from", "x"), ("from", "/participant/1"),
])
def test_post_that_is_wrong(feed, client, field, value):
    author = client.participant()
    problem(client.post(f"/participant/{author}/outbound", {"subject": "s", "story": "s", field: value}), 400, pointer="/" + field)


@pytest.mark.parametrize("missing", ["subject", "story"])
def test_post_that_lacks_something(client, missing):
    body = {"subject": "s", "story": "s"}
    del body[missing]
    problem(client.post(f"/participant/{client.participant()}/outbound", body), 400, "required", pointer="/" + missing)


def test_post_by_somebody_unknown(feed, client):
    problem(client.post("/participant/4711/outbound", {"subject": "s", "story": "s"}), 404)
    assert feed.one("SELECT COUNT(*) FROM outbound WHERE participant_id = 4711") == 0


def test_unknown_fields_are_ignored(client):
    author = client.participant()
    assert client.ok("POST", f"/participant/{author}/outbound", {"id": 1, "subject": "s", "story": "s", "to": "x", "likes": [1]})["subject"] == "s"


def test_lists_are_newest_first_and_by_pages(client):
    author, reader = client.participant(), client.participant()
    client.befriend(author, reader)
    posts = [client.say(author, f"story {i}") for i in range(7)]
    wait_for(lambda: len(client.inbound(reader)) == 7, "all posts")
    for path in (f"/participant/{reader}/inbound", f"/participant/{author}/outbound"):
        assert [row["id"] for row in client.ok("GET", path)] == posts[::-1]
        seen, page = [], client.get(path + "?limit=3")
        while True:
            assert len(page.json()) <= 3
            seen += [row["id"] for row in page.json()]
            if "next" not in page.links:
                break
            page = client.get(page.links["next"]["url"])
        assert seen == posts[::-1]


def test_a_page_is_stable_under_new_posts(client):
    author = client.participant()
    posts = [client.say(author, f"story {i}") for i in range(4)]
    wait_for(lambda: len(client.outbound(author)) == 4, "all posts")
    page = client.get(f"/participant/{author}/outbound?limit=2")
    late = client.say(author, "late")
    wait_for(lambda: client.outbound(author)[0]["id"] == late, "the late post")
    assert [row["id"] for row in client.get(page.links["next"]["url"]).json()] == posts[1::-1]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=", "limit=1.5", "limit=-1", "cursor=", "cursor=!!", "cursor=AAAA", "cursor=" + "A" * 101, "limit=%ff"])
def test_page_that_is_wrong(client, query):
    reader = client.participant()
    problem(client.get(f"/participant/{reader}/inbound?{query}"), 400)
    problem(client.get(f"/products?{query}"), 400)


def test_at_most_100_without_a_limit(feed, client):
    author = client.participant()
    for i in range(101):
        client.say(author, f"story {i}")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound WHERE participant_id = %s", author) == 101, "101 posts")
    page = client.get(f"/participant/{author}/outbound")
    assert len(page.json()) == 100 and "next" in page.links
    assert len(client.get(f"/participant/{author}/outbound?limit=1000").json()) == 101


LONG = "\U0001f600" * 65535


def test_a_page_of_long_posts_ends_early(feed, client):
    """At about 2 MiB, and the rest is on the pages that follow."""
    author, reader = client.participant(), client.participant()
    client.befriend(author, reader)
    posts = [client.say(author, LONG) for _ in range(20)][::-1]
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM inbound WHERE participant_id = %s", reader) == 20, "all posts")
    for path in (f"/participant/{reader}/inbound?limit=1000", f"/participant/{author}/outbound"):
        seen, sizes = [], []
        while path is not None:
            page = client.get(path)
            seen += [row["id"] for row in page.json()]
            sizes.append(len(page.content))
            path = page.links["next"]["url"] if "next" in page.links else None
        assert seen == posts and len(sizes) == 3
        assert all(2 << 20 <= size < (2 << 20) + 300000 for size in sizes[:-1])


def test_answers_that_nobody_takes_are_bounded(make_feed):
    """Clients that ask for long pages and do not read them get 503 in the end; what is small goes on."""
    feed = make_feed(gateway__max_in_flight=4 << 20).prepare()
    gateway = feed.gateway()
    feed.worker("command")
    feed.worker("fanout")
    client = Client(gateway.url)
    author = client.participant()
    for _ in range(10):
        client.say(author, LONG)
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") == 10, "all posts")
    path = f"/participant/{author}/outbound"
    port = int(gateway.url.rpartition(":")[2])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
    try:
        for one in idle: # the first pages go into buffers of the system
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 8)
        refused, = wait_for(lambda: [answer for answer in (client.get(path),) if answer.status_code == 503], "a list is refused")
        assert feed.metric(gateway, "feedmill_gateway_answer_bytes") < 20 << 20
        problem(refused, 503, "try again")
        assert client.say(author, "short") > 0 and client.get(f"/participant/{author}").status_code == 200
    finally:
        for one in idle:
            one.close()
    wait_for(lambda: client.get(path).status_code == 200, "lists are answered again")
    wait_for(lambda: feed.metric(gateway, "feedmill_gateway_answer_bytes") < 3 << 20, "the count goes down")


def test_wait_for_the_fan_out(client):
    author, reader = client.participant(), client.participant()
    client.befriend(author, reader)
    for i in range(5):
        answer = client.post(f"/participant/{author}/outbound", {"subject": "s", "story": f"waited {i}"}, headers={"Prefer": "wait=20"})
        assert answer.status_code == 200 and answer.headers["Preference-Applied"] == "wait=20"
        assert client.inbound(reader)[0]["id"] == answer.json()["id"], "the fan-out is waited for"


def test_respond_async(client):
    author, reader = client.participant(), client.participant()
    client.befriend(author, reader)
    answer = client.post(f"/participant/{author}/outbound", {"subject": "s", "story": "async"}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202 and answer.headers["Preference-Applied"] == "respond-async"
    command = answer.headers["Location"]
    assert command == f"/commands/{answer.json()['id']}" and answer.json()["status"] == "pending"
    done = wait_for(lambda: (c := client.ok("GET", command))["status"] == "done" and c, "the command is done")
    assert done["result"]["id"] == client.inbound(reader)[0]["id"]


def test_long_friend_list_goes_by_chunks(make_feed):
    feed = make_feed(fanout__chunk=10).start()
    client = feed.client
    author, friends = client.participant(), [client.participant() for _ in range(35)]
    for friend in friends:
        client.befriend(author, friend)
    answer = client.post(f"/participant/{author}/outbound", {"subject": "s", "story": "to many"}, headers={"Prefer": "wait=30"})
    assert answer.headers["Preference-Applied"] == "wait=30"
    post = answer.json()["id"]
    assert sorted(row[0] for row in feed.sql("SELECT participant_id FROM inbound WHERE post_id = %s", post)) == sorted(friends)
    assert feed.one("SELECT chunks FROM outbound WHERE id = %s", post) == 4
    assert feed.one("SELECT COUNT(*) FROM fanout_chunk WHERE post_id = %s AND done", post) == 4
    assert len(feed.records("feed.chunks", lambda records: len(records) >= 4)) == 4
    exactly = client.participant()
    for friend in friends[:10]:
        client.befriend(exactly, friend)
    post = client.say(exactly, "to ten", headers={"Prefer": "wait=30"})
    assert feed.one("SELECT chunks FROM outbound WHERE id = %s", post) == 0, "ten is not longer than ten"
    assert feed.one("SELECT COUNT(*) FROM inbound WHERE post_id = %s", post) == 10


def test_head_answers_without_the_body(client):
    author = client.participant()
    head, get = client.ask("HEAD", f"/participant/{author}"), client.get(f"/participant/{author}")
    assert head.status_code == 200 and head.text == ""
    assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.content))
