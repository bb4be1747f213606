"""Bodies, ids and texts that are wrong: 400 (404 for an id in a path, 413 for a body that is too long) with a problem document, and
nothing applied. What a strict reader and a lenient one would read differently is refused; what is only odd is kept as it is (texts.py, test_http.py)."""
import pytest

from expect import link, problem
from unharmed import Unharmed

JSON = {"Content-Type": "application/json"}
ID_MAX = 2**53 - 1

GRAMMAR = {
    "empty": b"", "space": b"  \r\n", "open object": b"{", "closed object": b"}", "open array": b"[", "half a word": b"nul", "no value": b'{"name":}', "not closed": b'{"name":"x"', "closed twice": b'{"name":"x"}}',
    "text behind": b'{"name":"x"} x', "two values": b'{"name":"x"}{"name":"y"}', "NUL behind": b'{"name":"x"}\x00', "single quotes": b"{'name':'x'}", "comma at the end": b'{"name":"x",}', "two commas": b'{"name":"x",,"a":1}',
    "no quotes": b'{name:"x"}', "comment": b'/**/{"name":"x"}', "BOM": b'\xef\xbb\xbf{"name":"x"}', "UTF-16": '{"name":"x"}'.encode("utf-16"), "NaN": b'{"name":"x","n":NaN}', "Infinity": b'{"name":"x","n":-Infinity}', "True": b'{"name":"x","n":True}',
    "01": b'{"name":"x","n":01}', "1.": b'{"name":"x","n":1.}', ".5": b'{"name":"x","n":.5}', "+1": b'{"name":"x","n":+1}', "1e": b'{"name":"x","n":1e}', "0x1": b'{"name":"x","n":0x1}', "1e400": b'{"name":"x","n":1e400}',
    "number of 1 MB": b'{"name":"x","n":' + b"9" * 1000000 + b"}",
}
KEYS = {
    "same key twice": b'{"name":"x","name":"y"}', "same key escaped": b'{"name":"x","\\u006eame":"y"}', "same key below": b'{"name":"x","a":{"b":1,"b":2}}',
    "1,001 keys": b'{"name":"x",' + b",".join(b'"k%d":1' % n for n in range(1000)) + b"}", "keys below": b'{"name":"x","a":[' + b",".join([b'{"k":1}'] * 1000) + b"]}",
    "100,000 keys": b"{" + b",".join(b'"%05x":1' % n for n in range(100000)) + b"}",
    # Keys that meet in hash tables of multiply-by-31: "Aa" and "BB".
    "colliding keys": b"{" + b",".join(b'"%s":1' % b"".join((b"Aa", b"BB")[n >> bit & 1] for bit in range(14)) for n in range(2**14)) + b"}",
    "depth 33": b'{"name":"x","a":' + b"[" * 32 + b"]" * 32 + b"}", "depth 100,000": b"[" * 100000 + b"]" * 100000, "100,000 objects": b'{"a":' * 100000, "key of another case": b'{"Name":"x"}', "key with a space": b'{"name ":"x"}',
}
STRINGS = {
    "NUL": b'{"name":"a\x00b"}', "escaped NUL": b'{"name":"a\\u0000b"}', "NUL in a key": b'{"name":"x","a\\u0000":1}', "high surrogate": b'{"name":"\\ud800"}', "low surrogate": b'{"name":"\\udc00"}', "surrogates the wrong way": b'{"name":"\\udc00\\ud800"}',
    "surrogate and text": b'{"name":"\\ud83dx"}', "surrogate as bytes": b'{"name":"\xed\xa0\x80"}', "CESU-8": b'{"name":"\xed\xa0\xbd\xed\xb8\x80"}', "byte ff": b'{"name":"\xff"}', "overlong /": b'{"name":"\xc0\xaf"}', "overlong NUL": b'{"name":"\xc0\x80"}',
    "cut character": b'{"name":"\xe2\x82"}', "beyond U+10FFFF": b'{"name":"\xf4\x90\x80\x80"}', "line break": b'{"name":"a\nb"}', "tab": b'{"name":"a\tb"}', "\\x41": b'{"name":"\\x41"}', "\\u12": b'{"name":"\\u12"}', "\\'": b'{"name":"\\\'"}', "bad bytes in a key": b'{"name":"x","\xff":1}',
}
TYPES = {"null": b"null", "true": b"true", "number": b"5", "string": b'"x"', "array": b"[]", "array of it": b'[{"name":"x"}]', "empty object": b"{}",
         **{f"name {value.decode()}": b'{"name":' + value + b"}" for value in (b"null", b"true", b"5", b"1e3", b"[]", b'["x"]', b"{}", b'""')}}
# Ids, as they are no id anywhere.
NO_IDS = ["0", "-1", "-0", "x", "1.0", "1e3", "01", "+1", "0x1", str(ID_MAX + 1), str(2**53 + 1), str(2**63 - 1), str(2**63), str(2**64 + 1), "9" * 400, "null", "true", "[]", "1,2"]
ODD_IDS = ["1%20", "%201", "1%09", "1%c2%a0", "%d9%a1"]  # the last is an Arabic digit


@pytest.fixture(scope="module")
def unharmed(feed):
    author, friend = feed.client.participant("author"), feed.client.participant("friend")
    unharmed = Unharmed(feed)
    unharmed.author, unharmed.friend = author, friend
    yield unharmed
    unharmed.check_all()


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for table in (GRAMMAR, KEYS, STRINGS, TYPES) for name, body in table.items()])
def test_body_that_is_wrong(client, unharmed, body):
    for path in ("/participant", "/products", f"/participant/{unharmed.author}/outbound", f"/participant/{unharmed.author}/friends"):
        problem(client.post(path, data=body, headers=JSON), 400)
    unharmed.check()


@pytest.mark.parametrize("body", [b'{"name":"%s"}' % (b"x" * 10**7), b'{"name":"x"}' + b" " * 2**20, iter([b'{"name":"', b"x" * 2**20, b'"}'])], ids=["10 MB", "a byte too long", "in chunks"])
def test_body_that_is_too_long(client, unharmed, body):
    problem(client.post("/participant", data=body, headers=JSON), 413)
    unharmed.check()


@pytest.mark.parametrize("id", NO_IDS + ODD_IDS)
def test_id_in_a_path(client, unharmed, id):
    for path in (f"/participant/{id}", f"/participant/{id}/friends", f"/participant/{id}/inbound", f"/participant/{id}/outbound"):
        problem(client.get(path), 404)
    for path in (f"/participant/{id}/outbound", f"/participant/{id}/friends"):
        problem(client.post(path, {"subject": "s", "story": "s", "to": link(unharmed.friend)}), 404)
    problem(client.delete(f"/products/{id}"), 404)
    unharmed.check()


@pytest.mark.parametrize("id", NO_IDS + ["1 ", " 1", "1\t", "١", "", "1/", "1/2", "1?", "1#"])
def test_id_in_a_body(client, unharmed, id):
    for value in (id, "/participant/" + id):
        nobody = id in (str(ID_MAX + 1), str(ID_MAX + 2))  # looks like an id: whose it is decides
        problem(client.post(f"/participant/{unharmed.author}/friends", {"to": value}), 404 if nobody else 400, pointer="/to")
        problem(client.post(f"/participant/{unharmed.author}/outbound", {"from": value, "subject": "s", "story": "s"}), 400, pointer="/from")
    unharmed.check()


@pytest.mark.parametrize("value", ["0", "7", "1.0", "1e3", "9007199254740993", "null", "true", "[]", "{}", '["/participant/1"]', '{"id":1}'])
def test_link_of_another_type(client, unharmed, value):
    problem(client.post(f"/participant/{unharmed.author}/friends", data='{"to":%s}' % value, headers=JSON), 400, pointer="/to")
    problem(client.post(f"/participant/{unharmed.author}/outbound", data='{"from":%s,"subject":"s","story":"s"}' % value, headers=JSON), 400, pointer="/from")
    unharmed.check()


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=1001", "limit=1e2", "limit=5.0", "limit=x", "limit=", "limit=9223372036854775808", "limit=%00", "cursor=x", "cursor=%ff", "cursor=" + "A" * 4000])
def test_page_that_is_none(client, unharmed, query):
    for path in ("/products", f"/participant/{unharmed.author}/inbound", f"/participant/{unharmed.author}/outbound", f"/participant/{unharmed.author}/friends"):
        problem(client.get(f"{path}?{query}"), 400)
    unharmed.check()
