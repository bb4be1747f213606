"""HTTP around the contract: methods, media types, limits, CORS, documents. What is wrong as HTTP or as JSON: test_bad_*.py."""
import pytest
import requests
import yaml

from expect import problem
from feedmill import ROOT, Client, Gateway


def test_unknown_path_and_method(client):
    for path in ("/", "/nothing", "/participant/", "/participant/7/", "/participant/7/enemies", "//products", "/products/7/8", "/Products"):
        problem(client.get(path), 404)
    for method, path, allow in (("PUT", "/products", "GET, HEAD, POST, OPTIONS"), ("DELETE", "/products", "GET, HEAD, POST, OPTIONS"), ("GET", "/products/7", "DELETE, OPTIONS"),
                                ("PATCH", "/participant/7", "GET, HEAD, OPTIONS"), ("GET", "/participant", "POST, OPTIONS"), ("TRACE", "/products", "GET, HEAD, POST, OPTIONS")):
        answer = client.ask(method, path)
        problem(answer, 405)
        assert answer.headers["Allow"] == allow


@pytest.mark.parametrize("media_type", ["application/json", "APPLICATION/JSON", "application/json; charset=utf-8", "application/json;charset=UTF-8", " application/json "])
def test_media_types_that_are_fine(client, media_type):
    answer = client.post("/participant", data=b'{"name":"x"}', headers={"Content-Type": media_type.strip(), "Accept": "text/html"})
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}, {}, {"Content-Type": "application/json5"},
                                     {"Content-Type": "application/json", "Content-Encoding": "gzip"}])
def test_media_types_that_are_not(client, headers):
    problem(client.post("/participant", data=b'{"name":"x"}', headers=headers), 415)


@pytest.mark.parametrize("body, name", [
    (b'{"na\\u006de":"\\u00e9\\/\\ud83d\\ude00\\n"}', "\u00e9/\U0001f600\n"), (b'{"name":"x","Name":"y","NAME":5}', "x"), (b'{"Name":"y","name":"x"}', "x"), (b'{"name":"x","__proto__":{"id":1},"id":{"x":[]},"link":7}', "x"),
    (b'{"name":"x","a":' + b"[" * 31 + b"]" * 31 + b"}", "x"), (b'{"name":"x",' + b",".join(b'"k%d":1' % n for n in range(999)) + b"}", "x"), (b' \r\n\t{"name" : "x" } \n', "x"), (b'{"name":"x","pad":"' + b"x" * (2**20 - 21) + b'"}', "x"),
], ids=["escapes", "other cases", "other case first", "fields that nobody asked for", "depth 32", "1,000 keys", "spaces", "1 MiB"])
def test_json_that_is_odd_and_right(client, body, name):
    assert len(body) <= 2**20
    made = client.post("/participant", data=body, headers={"Content-Type": "application/json"})
    assert made.status_code == 200 and made.json()["name"] == name, made.text


def test_chunked_body(client):
    def pieces():
        for byte in b'{"name":"in pieces"}':
            yield bytes([byte])
    assert client.post("/participant", data=pieces(), headers={"Content-Type": "application/json"}).json()["name"] == "in pieces"


def test_cors(client):
    for answer in (client.get("/products"), client.get("/nothing"), client.post("/participant", {})):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    preflight = client.ask("OPTIONS", "/participant/7/outbound", headers={
        "Origin": "http://example.com", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type, prefer"})
    assert preflight.status_code == 204 and preflight.text == ""
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert set(preflight.headers["Access-Control-Allow-Methods"].split(", ")) == {"GET", "HEAD", "POST", "OPTIONS"}
    assert preflight.headers["Access-Control-Allow-Headers"] == "content-type, prefer"
    assert client.ask("OPTIONS", "/products").headers["Allow"] == "GET, HEAD, POST, OPTIONS"
    problem(client.ask("OPTIONS", "/nothing"), 404)


def test_cors_origin_is_a_setting(make_feed):
    feed = make_feed(gateway__cors_origin="https://feed.example")
    feed.prepare()
    client = Client(feed.gateway().url)
    assert client.get("/products").headers["Access-Control-Allow-Origin"] == "https://feed.example"


def test_contract_is_served(client):
    text = client.get("/openapi.yaml")
    assert text.status_code == 200 and text.content == (ROOT / "config/api/feedmill.openapi.yaml").read_bytes()
    tree = client.get("/openapi.json")
    assert tree.headers["Content-Type"] == "application/json"
    assert tree.json() == yaml.safe_load(text.text)


def test_admin_port(feed, client):
    gateway = next(process for process in feed.processes if isinstance(process, Gateway))
    assert requests.get(gateway.admin + "/healthz", timeout=10).status_code == 200
    ready = requests.get(gateway.admin + "/readyz", timeout=10)
    assert ready.status_code == 200 and set(ready.json()["checks"]) >= {feed.queue, "lease", "schema", "search"}
    before = feed.metric(gateway, "feedmill_gateway_requests_total", operation="get_products")
    client.get("/products")
    assert feed.metric(gateway, "feedmill_gateway_requests_total", operation="get_products") == before + 1
    problem(client.get("/metrics"), 404)
