"""HTTP around the contract: methods, media types, limits, CORS, documents, and connections that stay up."""
import socket

import pytest
import requests
import yaml

from expect import problem
from feedmill import ROOT, Client, Gateway


def raw(client, request, *, half_close=False):
    """Bytes in, bytes out until the gateway closes."""
    host, port = client.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while block := connection.recv(65536):
            answer += block
        return answer


def status(answer):
    return int(answer.split(b" ", 2)[1])


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


@pytest.mark.parametrize("body", [
    b"", b"{", b"}", b"[", b"nul", b'{"name":}', b'{"name":"x"', b'{"name":"x"}}', b'{"name":"x"} x', b"{'name':'x'}", b'{"name":"x",}', b'{"name":"x","name":"y"}',
    b'{"name":"x","\\u006eame":"y"}', b'{"name":"\\u0000"}', b'{"name":"\\ud800"}', b'{"name":"\\udc00\\ud800"}', b'{"name":"\xff"}', b'{"name":"\xc0\xaf"}', b'{"name":"\xed\xa0\x80"}',
    b'\xef\xbb\xbf{"name":"x"}', b'{"name":"a\nb"}', b'{"name":"a\x00b"}', b'{"name":"\\x41"}', b'{name:"x"}', b"[" * 100000, b'{"name":"x","a":' + b"[" * 33 + b"]" * 33 + b"}",
    b'{"name":"x",' + b",".join(b'"k%d":1' % n for n in range(1500)) + b"}", b'{"name":"x","n":01}', b'{"name":"x","n":1.}', b'{"name":"x","n":+1}', b"/**/{}", b'{"name":"x"}\x00',
])
def test_json_that_is_broken(client, body):
    problem(client.post("/participant", data=body, headers={"Content-Type": "application/json"}), 400)


def test_json_escapes_are_understood(client):
    answer = client.post("/participant", data=b'{"na\\u006de":"\\u00e9\\/\\ud83d\\ude00\\n"}', headers={"Content-Type": "application/json"})
    assert answer.json()["name"] == "é/😀\n"


def test_body_up_to_the_limit(client):
    author = client.participant()
    fits = b'{"subject":"s","story":"s","pad":"' + b"x" * (1024 * 1024 - 36) + b'"}'
    assert len(fits) == 1024 * 1024
    assert client.post(f"/participant/{author}/outbound", data=fits, headers={"Content-Type": "application/json"}).status_code == 200
    too_large = client.post(f"/participant/{author}/outbound", data=fits + b" ", headers={"Content-Type": "application/json"})
    problem(too_large, 413)
    chunked = client.post(f"/participant/{author}/outbound", data=iter([fits, b" " * 10]), headers={"Content-Type": "application/json"})
    problem(chunked, 413)


def test_chunked_body(client):
    def pieces():
        for byte in b'{"name":"in pieces"}':
            yield bytes([byte])
    assert client.post("/participant", data=pieces(), headers={"Content-Type": "application/json"}).json()["name"] == "in pieces"


def test_expect_100_continue(client):
    answer = raw(client, b"POST /participant HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n" + b'{"name":"wait"')
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 ")


@pytest.mark.parametrize("request_bytes, code", [
    (b"GET /products HTTP/1.1\r\n\r\n", 400),
    (b"GET /products HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"POST /participant HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /participant HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345", 400),
    (b"POST /participant HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n12345", 400),
    (b"POST /participant HTTP/1.1\r\nHost: x\r\nContent-Length: 5,5\r\n\r\n12345", 400),
    (b"POST /participant HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
    (b"POST /participant HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\nContent-Length: 2\r\n\r\n{}", 417),
    (b"POST /participant HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2000000\r\n\r\n", 413),
])
def test_framing_that_is_wrong_is_answered_and_closed(client, request_bytes, code):
    answer = raw(client, request_bytes)
    assert status(answer) == code, answer
    assert b"connection: close" in answer.lower()
    assert client.get("/products").status_code == 200


@pytest.mark.parametrize("path, code", [(b"/outbound?keywords=%zz", 400), (b"/outbound?keywords=%", 400), (b"/outbound?keywords=%f", 400), (b"/participant/%31", 404),
                                        (b"/participant/1%00", 400), (b"/%2e%2e/products", 404), (b"/participant/../products", 404), (b"/products?" + b"x" * 9000, 414)])
def test_paths_that_are_odd(client, path, code):
    assert status(raw(client, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == code


def test_errors_keep_the_connection(client):
    pieces = [b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"PUT /products HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
              b"POST /participant HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", b"GET /participant/0 HTTP/1.1\r\nHost: x\r\n\r\n",
              b"GET /products HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]
    answer = raw(client, b"".join(pieces))
    assert [status(b"HTTP" + part) for part in answer.split(b"HTTP")[1:]] == [404, 405, 400, 404, 200], "pipelined on one connection"


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
    assert ready.status_code == 200 and set(ready.json()["checks"]) >= {"kafka", "lease", "schema", "search"}
    before = feed.metric(gateway, "feedmill_gateway_requests_total", operation="get_products")
    client.get("/products")
    assert feed.metric(gateway, "feedmill_gateway_requests_total", operation="get_products") == before + 1
    problem(client.get("/metrics"), 404)


def test_slow_headers_are_shut(make_feed):
    feed = make_feed(gateway__header_timeout_ms=1000)
    feed.prepare()
    client = Client(feed.gateway().url)
    answer = raw(client, b"GET /products HTTP/1.1\r\nHost: x\r\nX-Slow: ")  # returns when the gateway has closed
    assert answer == b"" or status(answer) == 408
    assert client.get("/products").status_code == 200
