"""The catalogue and its events: contract.md, products."""
import concurrent.futures
import decimal
import json

import pytest

from expect import problem
from feedmill import Client, wait_for
from texts import STRINGS


def listed(client):
    rows, path = {}, "/products?limit=1000"
    while path:
        page = client.get(path)
        rows.update((row["id"], row) for row in page.json())
        path = page.links.get("next", {}).get("url")
    return rows


def test_product_is_made_listed_and_deleted_with_its_events(feed, client):
    made = client.ok("POST", "/products", {"name": "Umbrella", "price": 12.5})
    assert made == {"id": made["id"], "name": "Umbrella", "price": 12.5}
    assert listed(client)[made["id"]] == made
    assert client.ok("DELETE", f"/products/{made['id']}") == {"status": "deleted"}
    assert made["id"] not in listed(client)
    problem(client.delete(f"/products/{made['id']}"), 404)
    other = client.ok("POST", "/products", {"name": "after", "price": 1})["id"]

    def mine(records, id):
        return [record for record in records if record.key() == str(id).encode()]
    records = feed.records("product_events", lambda rs: mine(rs, other) and len(mine(rs, made["id"])) >= 2)
    created, deleted = mine(records, made["id"])
    assert created.value() == b'{"action":"created","id":%d,"name":"Umbrella"}' % made["id"]
    assert deleted.value() == b'{"action":"deleted","id":%d}' % made["id"]
    assert created.offset() < deleted.offset() and created.partition() == deleted.partition()
    for record, sequence, kind in ((created, "1", "product.created"), (deleted, "2", "product.deleted")):
        headers = {name: value.decode() for name, value in record.headers()}
        assert headers["ce_specversion"] == "1.0" and headers["ce_sequence"] == sequence and headers["ce_type"] == kind
        assert headers["ce_id"] and headers["ce_source"] and headers["content-type"] == "application/json"
    assert dict(created.headers())["ce_id"] != dict(deleted.headers())["ce_id"]


def test_product_is_in_the_store_when_answered(feed, client):
    made = client.ok("POST", "/products", {"name": "Exact", "price": 0.07})["id"]
    (name, price), = feed.sql("SELECT name, price FROM product WHERE id = %s", made)
    assert (name, decimal.Decimal(price)) == ("Exact", decimal.Decimal("0.07"))


@pytest.mark.parametrize("sent, kept", [
    ("0", "0"), ("0.0", "0"), ("-0", "0"), ("0.01", "0.01"), ("0.1", "0.1"), ("1.50", "1.5"), ("15e-1", "1.5"), ("1E2", "100"), ("9999999999.99", "9999999999.99"),
    ("9999999999.990", "9999999999.99"), ("2.675", None), ("0.001", None), ("-0.01", None), ("-1", None), ("10000000000", None), ("1e400", None), ("1e-400", None),
    ("9999999999.991", None), ('"1.5"', None), ("null", None), ("[1]", None), ("true", None), ("1.", None), (".5", None), ("01", None), ("0x10", None), ("NaN", None),
])
def test_price_is_exact(client, sent, kept):
    answer = client.post("/products", data='{"name":"p","price":%s}' % sent, headers={"Content-Type": "application/json"})
    if kept is None:
        problem(answer, 400)
        return
    assert answer.status_code == 200 and answer.text.endswith('"price":%s}' % kept), answer.text
    id = answer.json()["id"]
    text = client.get("/products?limit=1000").text
    assert '{"id":%d,"name":"p","price":%s}' % (id, kept) in text


@pytest.mark.parametrize("name", STRINGS)
def test_name_is_kept_exactly_also_in_the_event(feed, client, name):
    made = client.ok("POST", "/products", {"name": name, "price": 1})
    assert made["name"] == name and listed(client)[made["id"]]["name"] == name
    records = feed.records("product_events", lambda rs: any(r.key() == str(made["id"]).encode() for r in rs))
    event, = [json.loads(r.value()) for r in records if r.key() == str(made["id"]).encode()]
    assert event == {"action": "created", "id": made["id"], "name": name}


@pytest.mark.parametrize("body, pointer", [
    ({}, None), ({"name": "x"}, "/price"), ({"price": 1}, "/name"), ({"name": "", "price": 1}, "/name"), ({"name": "x" * 256, "price": 1}, "/name"),
    ({"name": None, "price": 1}, "/name"), ({"name": 5, "price": 1}, "/name"), ({"name": "x", "price": "1"}, "/price"), ([], ""),
])
def test_product_that_is_wrong(client, body, pointer):
    problem(client.post("/products", body), 400, pointer=pointer)


def test_delete_of_nothing_has_no_event(feed, client):
    problem(client.delete("/products/4711"), 404)
    for id in ("0", "x", "-1", str(2**53)):
        problem(client.delete(f"/products/{id}"), 404)
    after = client.ok("POST", "/products", {"name": "after", "price": 1})["id"]
    records = feed.records("product_events", lambda rs: any(r.key() == str(after).encode() for r in rs))
    assert not [r for r in records if r.key() == b"4711"]


def test_list_in_id_order_by_pages(client):
    made = [client.ok("POST", "/products", {"name": f"p{i}", "price": i})["id"] for i in range(5)]
    assert made == sorted(made)
    rows = listed(client)
    assert list(rows) == sorted(rows) and set(made) <= set(rows)
    page = client.get("/products?limit=2")
    assert len(page.json()) == 2 and "next" in page.links


def test_concurrent_products_are_all_there(feed, client):
    clients = [Client(client.url) for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: clients[n % 8].ok("POST", "/products", {"name": f"c{n}", "price": n})["id"], range(200)))
    assert len(set(ids)) == 200
    rows = listed(client)
    assert all(rows[id]["name"] == f"c{n}" for n, id in enumerate(ids))
    keys = {str(id).encode() for id in ids}
    records = feed.records("product_events", lambda rs: keys <= {r.key() for r in rs})
    assert len([r for r in records if r.key() in keys]) == 200


def test_respond_async_and_the_command(client):
    answer = client.post("/products", {"name": "later", "price": 2}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202 and answer.headers["Preference-Applied"] == "respond-async"
    location = answer.headers["Location"]
    done = wait_for(lambda: (c := client.ok("GET", location))["status"] != "pending" and c, "the command is done")
    assert done["status"] == "done" and done["result"]["name"] == "later" and done["result"]["price"] == 2
    gone = client.delete("/products/4711", headers={"Prefer": "respond-async"})
    failed = wait_for(lambda: (c := client.ok("GET", gone.headers["Location"]))["status"] != "pending" and c, "the command has failed")
    assert failed["status"] == "failed" and failed["problem"]["status"] == 404
