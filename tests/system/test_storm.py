"""A storm of posts, and a database that stands still meanwhile."""
import os
import re
import signal
import subprocess

import pytest

from feedmill import Client, server, wait_for

pytestmark = pytest.mark.alone

SCRIPT = r"""
local authors = {%s}
local path = "%s"
local n, file = 0, nil
local threads = 0
function setup(thread) thread:set("number", threads); threads = threads + 1 end
function init() file = io.open(path .. number, "w") end
request = function()
  n = n + 1
  return wrk.format("POST", "/participant/" .. authors[n %% #authors + 1] .. "/outbound", {["Content-Type"] = "application/json"},
    '{"subject":"storm","story":"lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod"}')
end
response = function(status, headers, body)
  if status == 200 then file:write(body:match('"id":(%%d+)'), "\n")
  elseif status == 503 and headers["Retry-After"] then file:write("503\n")
  else file:write("bad ", status, " ", body, "\n") end
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RATE %%.1f SOCKET %%d SLOWEST %%.1f\n", summary.requests / summary.duration * 1e6, e.connect + e.read + e.write + e.timeout, latency.max / 1e3))
end
"""


def storm(feed, url, authors, seconds, label):
    """wrk with 400 connections; the ids that were answered 200, how often 503, and the rate."""
    script = feed.folder / f"{label}.lua"
    script.write_text(SCRIPT % (",".join(f"'{author}'" for author in authors), feed.folder / f"{label}-"))
    out = subprocess.run(["wrk", "-t2", "-c400", f"-d{seconds}s", "--timeout", "15s", "-s", script, url], capture_output=True, text=True, timeout=seconds + 60, check=True).stdout
    rate, broken, slowest = re.search(r"RATE (\S+) SOCKET (\d+) SLOWEST (\S+)", out).groups()
    lines = [line for file in feed.folder.glob(f"{label}-*") for line in file.read_text().splitlines()]
    bad = [line for line in lines if not line.isdigit()]
    assert not bad, bad[:5]
    assert int(broken) == 0, out
    return [int(line) for line in lines if line != "503"], lines.count("503"), float(rate), float(slowest)


@pytest.fixture
def crowd(make_feed):
    feed = make_feed(kafka__partitions=4).prepare()
    gateway = feed.gateway()
    feed.worker("command")
    client = feed.client = Client(gateway.url)
    authors = [client.participant() for _ in range(20)]
    for one, other in zip(authors, authors[1:]):
        client.befriend(one, other)
    return feed, gateway, authors


@pytest.mark.timeout(400)
def test_every_post_answered_200_arrives(crowd):
    feed, gateway, authors = crowd
    workers = [feed.worker("fanout"), feed.worker("index")]
    ids, refused, rate, _ = storm(feed, gateway.url, authors, 10, "storm")
    assert len(ids) == len(set(ids)) and len(ids) > 1000
    print(f"storm: {len(ids)} posts answered 200, {refused} refused, {rate:.0f}/s")
    wait_for(lambda: feed.lag("fanout") == 0, "all posts are fanned out", 240, every=0.5)
    there = {row[0] for row in feed.sql("SELECT id FROM outbound")}
    assert not set(ids) - there, "answered 200 and not there"
    assert feed.sql("SELECT participant_id, post_id FROM inbound GROUP BY participant_id, post_id HAVING COUNT(*) > 1 LIMIT 5") == ()
    assert feed.one("SELECT COUNT(*) FROM outbound o JOIN friend f ON f.participant_id = o.participant_id LEFT JOIN inbound i ON i.participant_id = f.friend_id "
                    "AND i.post_id = o.id WHERE i.post_id IS NULL") == 0
    wait_for(lambda: feed.lag("index") == 0, "all posts are indexed", 240, every=0.5)
    assert feed.documents() == len(there)
    assert all(worker.running() for worker in workers) and gateway.running()


@pytest.mark.servers("one that is stopped")
def test_a_database_that_stands_still_does_not_slow_posts_of_known_authors(crowd):
    feed, gateway, authors = crowd
    ids, refused, usual, _ = storm(feed, gateway.url, authors, 4, "usual")
    database = int(server("MYSQL_PID"))
    os.kill(database, signal.SIGSTOP)
    try:
        more, refused_too, stopped, slowest = storm(feed, gateway.url, authors, 4, "stopped")
    finally:
        os.kill(database, signal.SIGCONT)
    print(f"posts/s: {usual:.0f} usual, {stopped:.0f} with the database stopped; slowest {slowest:.0f} ms")
    assert refused == refused_too == 0
    assert stopped > usual / 2
    feed.worker("fanout")
    wait_for(lambda: feed.one("SELECT COUNT(*) FROM outbound") >= len(ids) + len(more), "all posts", 120, every=0.5)
