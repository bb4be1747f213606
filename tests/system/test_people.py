"""Participants and friendships: contract.md, rows one to four."""
import pytest

from expect import link, problem
from texts import STRINGS

ID_MAX = 2**53 - 1


def test_participant_is_made_and_read(feed, client):
    made = client.ok("POST", "/participant", {"name": "Ada"})
    assert made == {"id": made["id"], "name": "Ada", "link": link(made["id"])}
    assert 0 < made["id"] <= ID_MAX
    assert client.ok("GET", made["link"]) == made
    assert feed.one("SELECT name FROM participant WHERE id = %s", made["id"]) == "Ada"


def test_id_and_link_in_the_body_are_ignored(client):
    made = client.ok("POST", "/participant", {"id": 5, "link": "/participant/5", "name": "Eve", "more": {"x": [1]}})
    assert made["id"] != 5
    assert client.ok("POST", "/participant", {"id": None, "link": None, "name": "Eve"})["name"] == "Eve"


def test_same_name_twice_is_two_participants(client):
    assert client.participant("Twin") != client.participant("Twin")


@pytest.mark.parametrize("name", [s for s in STRINGS if len(s) <= 50])
def test_name_is_kept_exactly(feed, client, name):
    made = client.ok("POST", "/participant", {"name": name})
    assert client.ok("GET", made["link"])["name"] == name
    assert feed.one("SELECT name FROM participant WHERE id = %s", made["id"]) == name


def test_name_has_1_to_50_characters(client):
    assert client.participant("😀" * 50)
    problem(client.post("/participant", {"name": "😀" * 51}), 400, "at most 50", pointer="/name")
    problem(client.post("/participant", {"name": ""}), 400, "at least 1", pointer="/name")


@pytest.mark.parametrize("body, pointer", [
    ({}, "/name"), ({"name": None}, "/name"), ({"name": 5}, "/name"), ({"name": ["x"]}, "/name"), ({"Name": "x"}, "/name"),
    ([], ""), ("x", ""), (5, ""), ([{"name": "x"}], ""),
])
def test_participant_body_that_is_wrong(client, body, pointer):
    problem(client.post("/participant", body), 400, pointer=pointer)


def test_unknown_participant(client):
    problem(client.get("/participant/4711"), 404)
    assert client.ok("GET", "/participant/4711/friends") == []
    assert client.inbound(4711) == []
    assert client.outbound(4711) == []


def test_friendship_is_symmetric(feed, client):
    one, other = client.participant(), client.participant()
    made = client.ok("POST", f"/participant/{one}/friends", {"from": link(one), "to": link(other)})
    assert made == {"id": made["id"], "from": link(one), "to": link(other)}
    assert client.ok("GET", f"/participant/{one}/friends") == [made]
    assert client.ok("GET", f"/participant/{other}/friends") == [{"id": made["id"], "from": link(other), "to": link(one)}]
    assert feed.one("SELECT COUNT(*) FROM friend WHERE id = %s", made["id"]) == 2


def test_friendship_again_or_reversed_is_the_same(feed, client):
    one, other = client.participant(), client.participant()
    first = client.befriend(one, other)
    assert client.befriend(one, other) == first
    again = client.ok("POST", f"/participant/{other}/friends", {"from": link(other), "to": link(one)})
    assert again == {"id": first, "from": link(other), "to": link(one)}
    assert feed.one("SELECT COUNT(*) FROM friend WHERE participant_id IN (%s, %s)", one, other) == 2


def test_friend_links_may_be_bare_ids_and_from_may_be_absent(client):
    one, other = client.participant(), client.participant()
    made = client.ok("POST", f"/participant/{one}/friends", {"id": 9, "to": str(other)})
    assert (made["from"], made["to"]) == (link(one), link(other))
    assert client.ok("POST", f"/participant/{one}/friends", {"from": str(one), "to": link(other)}) == made


def test_friendship_that_is_wrong(client):
    one, other = client.participant(), client.participant()
    path = f"/participant/{one}/friends"
    problem(client.post(path, {"from": link(other), "to": link(one)}), 400, pointer="/from")
    problem(client.post(path, {"from": link(one), "to": link(one)}), 400, pointer="/to")
    problem(client.post(path, {"to": other}), 400, pointer="/to")
    problem(client.post(path, {"from": one, "to": link(other)}), 400, pointer="/from")
    problem(client.post(path, {"from": None, "to": link(other)}), 400, pointer="/from")
    problem(client.post(path, {"from": link(one)}), 400, pointer="/to")
    for broken in ("", "/participant/", "/participant/x", "/participants/5", "participant/5", "/participant/0", "/participant/5/"):
        problem(client.post(path, {"to": broken}), 400, pointer="/to")
    assert client.ok("GET", path) == []


def test_friendship_with_somebody_unknown(feed, client):
    one = client.participant()
    problem(client.post(f"/participant/{one}/friends", {"to": "/participant/4711"}), 404)
    problem(client.post(f"/participant/{one}/friends", {"to": link(ID_MAX + 1)}), 404, pointer="/to")
    problem(client.post("/participant/4711/friends", {"to": link(one)}), 404)
    assert feed.one("SELECT COUNT(*) FROM friend WHERE participant_id IN (%s, 4711)", one) == 0


def test_friends_by_pages(client):
    one, others = client.participant(), [client.participant() for _ in range(5)]
    for other in others:
        client.befriend(one, other)
    seen, path = [], f"/participant/{one}/friends?limit=2"
    while path:
        page = client.get(path)
        assert page.status_code == 200 and len(page.json()) <= 2
        seen += [friend["to"] for friend in page.json()]
        path = page.links.get("next", {}).get("url")
    assert seen == [link(other) for other in sorted(others)]
