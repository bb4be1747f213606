"""What is promised of the files of one folder: processes that are stopped or killed delay, and neither lose nor double anything."""
import concurrent.futures
import os
import re
import signal

import pytest

from feedmill import STACK, Client, wait_for
from test_up import Up

pytestmark = pytest.mark.skipif(STACK != "embedded", reason="is about the embedded back ends: --stack embedded")


def delivered(feed):
    return feed.sql("SELECT post_id, participant_id, COUNT(*) FROM inbound GROUP BY post_id, participant_id")


def test_the_owner_of_partitions_that_is_stopped_delays_and_doubles_nothing(make_feed):
    """Two replicas; one is stopped with records of its partitions to do. The other does its own; nobody takes what the stopped one has."""
    feed = make_feed(kafka__partitions=4).prepare()
    client = Client(feed.gateway().url)
    feed.worker("command")
    author, reader = client.participant(), client.participant()
    client.befriend(author, reader)
    workers = [feed.worker("fanout") for _ in range(2)]

    def share():
        feed.produce_all("feed.posts", [{"value": b"refused", "partition": partition} for partition in range(4)])
        wait_for(lambda: feed.lag("fanout") == 0, "they are done")
        return min(feed.metric(worker, "feedmill_worker_records_total", worker="fanout", outcome="reject") for worker in workers) > 0
    wait_for(share, "both have partitions")
    workers[0].signal(signal.SIGSTOP)
    authors = [client.participant() for _ in range(30)]      # their posts are on all partitions
    for one in authors:
        client.befriend(one, reader)
    posts = {client.say(one, "while one is stopped") for one in authors}

    def arrived():
        return {post for post, _, _ in delivered(feed)}
    first = wait_for(arrived, "the other one does what is its own")
    assert first < posts
    late = feed.worker("fanout", wait=False)      # one more can't take them either
    late.wait_logged("event=start ")
    left = wait_for(lambda: (lag := feed.lag("fanout")) and lag < len(posts) and lag, "what the stopped one has is left")
    more = client.say(author, "later")
    wait_for(lambda: feed.lag("fanout") <= left + 1, "the others go on")
    assert not posts <= arrived()
    workers[0].signal(signal.SIGCONT)
    wait_for(lambda: arrived() >= posts | {more}, "all of them")
    wait_for(lambda: feed.lag("fanout") == 0, "nothing is left")
    assert all(count == 1 for _, _, count in delivered(feed)) and arrived() == posts | {more}


def test_kill_of_any_process_under_load_loses_and_doubles_nothing(make_feed):
    """feedctl up with two of everything; each process is killed in the middle of posts, and started again by it."""
    feed = make_feed(kafka__partitions=4).prepare()
    one = feed._start(Up, "up", "feedctl", "up", "--replicas", "gateway=2,command=2,fanout=2,index=2,chunk=1,relay=0").wait_ready()
    client = Client(one.url)
    people = [client.participant() for _ in range(6)]
    for reader in people[1:]:
        client.befriend(people[0], reader)
    answered, unknown = {}, set()

    def post(number):
        story = f"story {number}"
        try:
            answer = Client(one.url).post(f"/participant/{people[0]}/outbound", {"subject": "s", "story": story})
        except OSError:     # its gateway died: nobody knows
            answer = None
        if answer is not None and answer.status_code == 200:
            answered[answer.json()["id"]] = story
        else:
            unknown.add(story)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for name in ("fanout.1", "gateway.1", "index.2", "fanout.2", "command.1", "gateway.2"):
            jobs = [pool.submit(post, f"{name} {n}") for n in range(60)]
            wait_for(lambda: sum(job.done() for job in jobs) >= 10, "posts are under way")
            os.kill(one.pids(name)[-1], signal.SIGKILL)
            for job in jobs:
                job.result()
    wait_for(lambda: len(re.findall("event=ended .*signal=9", one.output())) == 6, "all six were killed")
    assert len(answered) > 200, (len(answered), len(unknown))
    wait_for(lambda: {story for story, in feed.sql("SELECT story FROM outbound")} >= set(answered.values()), "every post that was answered", 60)
    wait_for(lambda: feed.lag("fanout") == 0 and feed.lag("index") == 0, "all is done", 60)
    rows = delivered(feed)
    assert all(count == 1 for _, _, count in rows)
    there = dict(feed.sql("SELECT id, story FROM outbound"))
    assert answered.items() <= there.items() and set(there.values()) <= set(answered.values()) | unknown, "nothing that nobody sent"
    assert {(post, reader) for post, reader, _ in rows} == {(post, reader) for post in there for reader in people[1:]}
    assert feed.documents() == len(there)
    assert one.stop() == 0
