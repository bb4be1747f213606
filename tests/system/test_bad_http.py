"""Requests that are wrong as HTTP: the named answer, the next request fine, nothing applied.

Known limits are what libmicrohttpd 0.9.75 does and this project can't change; docs/http.md lists them. When one of their rows fails
because the answer has become stricter, move it up.
"""
import os
import socket

import pytest

from expect import problem
from unharmed import Unharmed
from wire import connect, raw, rest_of, status, statuses

BODY = b'{"name":"never made","price":1}'
CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)


def get(*headers, target=b"/products?limit=1", method=b"GET", version=b"HTTP/1.1", end=b"\r\n"):
    return end.join((b" ".join((method, target, version)), b"Host: x", b"Connection: close") + headers + (b"", b""))


def post(*headers, body=BODY, version=b"HTTP/1.1"):
    return b"\r\n".join((b"POST /products " + version, b"Host: x", b"Connection: close", b"Content-Type: application/json") + headers + (b"", body))


def sized(size, *headers):
    return post(b"Content-Length: " + size, *headers)


def chunked(body, *headers):
    return post(b"Transfer-Encoding: chunked", *headers, body=body)


SIZE = b"%d" % len(BODY)

FRAMING = {
    "length and encoding": (sized(SIZE, b"Transfer-Encoding: chunked"), 400), "encoding and length": (chunked(CHUNK + b"0\r\n\r\n", b"Content-Length: " + SIZE), 400),
    "two lengths": (sized(SIZE, b"Content-Length: 3"), 400), "the same length twice": (sized(SIZE, b"Content-Length: " + SIZE), 400),
    "length +5": (sized(b"+5"), 400), "length 5,5": (sized(b"5,5"), 400), "length -1": (sized(b"-1"), 400), "length 0x5": (sized(b"0x5"), 400), "length empty": (sized(b""), 400),
    "length 5 5": (sized(b"5 5"), 400), "length 2^63": (sized(b"%d" % 2**63), 400), "length 2^64": (sized(b"%d" % 2**64), 413), "length 2^64 + n": (sized(b"%d" % (2**64 + len(BODY))), 413),
    "length 2^63-1": (sized(b"%d" % (2**63 - 1)), 413), "length over the limit": (sized(b"1048577"), 413), "no length": (post(), 400),
    "xchunked": (post(b"Transfer-Encoding: xchunked"), 501), "chunked, chunked": (post(b"Transfer-Encoding: chunked, chunked"), 501), "chunked twice": (chunked(CHUNK, b"Transfer-Encoding: chunked"), 501),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked"), 501), "identity": (post(b"Transfer-Encoding: identity"), 501), "empty encoding": (post(b"Transfer-Encoding:"), 501),
    "chunked behind a tab": (post(b"Transfer-Encoding: \x0bchunked"), 400), "chunked in 1.0": (post(b"Transfer-Encoding: chunked", version=b"HTTP/1.0"), 400),
    "chunk of 2^64-1": (chunked(b"ffffffffffffffff\r\n" + b" " * 2000000), 413), "chunk of 2^68": (chunked(b"ffffffffffffffff1\r\n" + BODY), 413),
    "chunk size wraps": (chunked(b"1000000000000001f\r\n" + BODY + b"\r\n0\r\n\r\n"), 413), "chunks over the limit": (chunked((b"10000\r\n" + b" " * 65536 + b"\r\n") * 17), 413),
    **{f"chunk size {size!r}": (chunked(size + b"\r\n" + BODY + b"\r\n0\r\n\r\n"), 400) for size in (b"-1f", b"+1f", b"0x1f", b" 1f", b"1f ", b"", b"xyz", b"1g")},
    "no CRLF behind a chunk": (chunked(CHUNK[:-2] + b"0\r\n\r\n"), 400), "something behind a chunk": (chunked(CHUNK[:-2] + b"xx0\r\n\r\n"), 400), "chunk with CR alone": (chunked(CHUNK.replace(b"\r\n", b"\r") + b"0\r\r"), 400),
}
HEADERS = {
    "bare CR in a value": (get(b"X: a\rb"), 400), "bare CR hides a header": (post(b"X: a\rTransfer-Encoding: chunked"), 400), "bare CR as line end": (get().replace(b"\r\n", b"\r", 2), 400),
    "space before the colon": (get(b"X : a"), 400), "space before the colon, length": (sized(SIZE).replace(b"Length:", b"Length :"), 400), "tab before the colon": (get(b"X\t: a"), 400),
    "space before the colon, encoding": (sized(SIZE, b"Transfer-Encoding : chunked"), 400), "space in a name": (get(b"X Y: a"), 400), "no colon": (get(b"nothing"), 400),
    "NUL in a name": (get(b"X\0Y: a"), 400), "NUL behind a name": (get(b"Content-Length\0: 31"), 400), "0x80 in a name": (get(b"X\x80\xff: a"), 400), "slash in a name": (get(b"X/Y: a"), 400),
    "control character in a value": (get(b"X: a\x01b"), 400), "DEL in a value": (get(b"X: a\x7fb"), 400), "first line folded": (get().replace(b"Host", b" Host"), 400),
    "no host": (b"GET /products HTTP/1.1\r\n\r\n", 400), "two hosts": (get(b"Host: y"), 400), "host with @": (get().replace(b"Host: x", b"Host: a@x"), 400), "host with a newline": (get().replace(b"Host: x", b"Host: a\r\n b"), 400),
    "host with a path": (get().replace(b"Host: x", b"Host: x/y"), 400), "101 headers": (get(*[b"X-%d: 1" % n for n in range(99)]), 431), "17 KiB of headers": (get(b"X: " + b"a" * 17 * 1024), 431),
    "1 MiB of headers": (get(b"X: " + b"a" * 2**20), 431), "unknown expectation": (sized(SIZE, b"Expect: 200-ok"), 417),
    "gzip body": (sized(SIZE, b"Content-Encoding: gzip"), 415), "text body": (sized(SIZE).replace(b"application/json", b"text/plain"), 415), "body without a type": (sized(SIZE).replace(b"Content-Type", b"X-Type"), 415),
}
REQUEST_LINES = {
    "9 KiB": (get(target=b"/products?x=" + b"a" * 9 * 1024), 414), "100 KiB": (get(target=b"/products?x=" + b"a" * 100 * 1024), 414),
    "%00": (get(target=b"/products%00"), 400), "%zz": (get(target=b"/products%zz"), 400), "half an escape": (get(target=b"/products%4"), 400), "DEL": (get(target=b"/products\x7f"), 400), "space": (get(target=b"/products x"), 400),
    "dots": (get(target=b"/participant/../products"), 404), "escaped dots": (get(target=b"/%2e%2e/products"), 404), "//": (get(target=b"//products"), 404), "escaped digit": (get(target=b"/participant/%31"), 404),
    "overlong": (get(target=b"/products%c0%af"), 404), "raw overlong": (get(target=b"/products\xc0\xaf"), 404), "overlong in the query": (get(target=b"/outbound?keywords=%c0%af"), 400),
    "%zz in the query": (get(target=b"/outbound?keywords=%zz"), 400), "% in the query": (get(target=b"/outbound?keywords=%"), 400), "another scheme": (get(target=b"ftp://x/products"), 404), "no slash": (get(target=b"products"), 404),
    "*": (get(target=b"*"), 404), "OPTIONS *": (get(target=b"*", method=b"OPTIONS"), 404), "CONNECT": (get(target=b"x:80", method=b"CONNECT"), 404), "CONNECT to a path": (get(method=b"CONNECT"), 405), "TRACE": (get(method=b"TRACE"), 405),
    "lower-case method": (get(method=b"get"), 405), "long method": (get(method=b"G" * 5000), 405), "odd method": (get(method=b"G(T"), 405), "no version": (b"GET /products\r\n\r\n", 400), "lower-case version": (get(version=b"http/1.1"), 400),
    "version 1.1x": (get(version=b"HTTP/1.1x"), 400), "version 2.0": (get(version=b"HTTP/2.0"), 505), "version 10.1": (get(version=b"HTTP/10.1"), 400), "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), 505),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", None), "tabs": (get().replace(b" ", b"\t", 2), None), "leading space": (b" " + get(), None),
}
KNOWN_LIMITS = {
    "folded header": (get(b"X: a", b" b"), 200), "bare LF": (get(end=b"\n"), 200), "no name": (get(b": a"), 200), "two spaces": (get(target=b" /products"), 200), "NUL in a value": (get(b"X: a\0b"), 200), "NUL in the target": (get(target=b"/products\0x"), 200),
    "a length may not be followed by a space": (sized(SIZE + b" "), 400), "1 MiB of chunk extension": (chunked(b"1f;" + b"a" * 2**20 + b"\r\n" + BODY), 500),
}
# Odd, and right: an answer as if nothing were the matter.
FINE = {
    "absolute form": get(target=b"http://other/products?limit=1"), "empty lines before": b"\r\n\r\n" + get(), "100 headers": get(*[b"X-%d: 1" % n for n in range(98)]), "16 KiB of headers": get(b"X: " + b"a" * 16000),
    "empty host": get().replace(b"Host: x", b"Host:"), "bytes above 0x7f in a value": get(b"X: \x80\xff"), "tab in a value": get(b"X: a\tb"), "version 1.2": get(version=b"HTTP/1.2"), "body with GET": get(b"Content-Length: 31") + BODY,
    "wish for HTTP/2": get(b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"), "8 KiB target": get(target=b"/products?limit=1&x=" + b"a" * 8000), "every sign of a token": get(b"!#$%&'*+-.^_`|~0Az: 1"),
}


@pytest.fixture(scope="module")
def unharmed(feed):
    unharmed = Unharmed(feed)
    yield unharmed
    unharmed.check_all()


def cases(*tables):
    return pytest.mark.parametrize("request_bytes, code", [pytest.param(*row, id=name) for table in tables for name, row in table.items()])


@cases(FRAMING, HEADERS, REQUEST_LINES)
def test_refused_and_closed(client, unharmed, request_bytes, code):
    answer = raw(client, request_bytes)
    assert status(answer) == code, answer
    assert code is None or b"\r\nconnection: close\r\n" in answer.lower()
    unharmed.check()


@cases(KNOWN_LIMITS)
def test_known_limit_of_libmicrohttpd(client, unharmed, request_bytes, code):
    assert status(raw(client, request_bytes)) == code
    unharmed.check()


@pytest.mark.parametrize("request_bytes", FINE.values(), ids=FINE)
def test_odd_and_right(client, unharmed, request_bytes):
    assert status(raw(client, request_bytes)) == 200
    unharmed.check()


def test_every_refusal_of_ours_is_a_problem_document(client):
    problem(client.get("/products%00"), 400, "path")
    problem(client.get("/products", headers={"Expect": "200-ok"}), 417)
    problem(client.get("/products", headers={f"X-{n}": "1" for n in range(120)}), 431)


def test_pipelined_thousand(client, unharmed):
    answers = raw(client, get().replace(b"Connection: close\r\n", b"") * 999 + get())
    assert statuses(answers) == [200] * 1000
    unharmed.check()


def test_half_close_is_answered_and_closed(client, unharmed):
    """The end may come with the request's last bytes or after them, so there are many; the idle timeout is longer than the wait here."""
    for _ in range(20):
        assert status(raw(client, get().replace(b"Connection: close\r\n", b""), half_close=True)) == 200
    unharmed.check()


def test_half_close_answers_all_that_came_before(client, unharmed):
    assert statuses(raw(client, get().replace(b"Connection: close\r\n", b"") * 50, half_close=True)) == [200] * 50
    unharmed.check()


def test_half_close_in_a_body_is_no_request(client, unharmed):
    request = b"POST /participant HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    for _ in range(20):
        assert raw(client, request, half_close=True) == b""
    unharmed.check()


def test_errors_keep_the_connection(client, unharmed):
    pieces = [b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"PUT /products HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
              b"POST /participant HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", b"GET /participant/0 HTTP/1.1\r\nHost: x\r\n\r\n", get()]
    assert statuses(raw(client, b"".join(pieces))) == [404, 405, 400, 404, 200], "pipelined on one connection"
    unharmed.check()


def test_nothing_is_read_behind_a_refusal(client, unharmed):
    """What follows a request whose end nobody knows must not be taken for a request."""
    hidden = b"POST /products HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
    for first in (sized(SIZE, b"Transfer-Encoding: chunked"), post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), sized(b"5,5"), chunked(b"xyz\r\n")):
        first = first.replace(b"Connection: close\r\n", b"")
        assert 200 not in statuses(raw(client, first + hidden))
        unharmed.check()


def test_expect_100_continue(client, unharmed):
    with connect(client) as connection:
        connection.sendall(sized(b"14", b"Expect: 100-continue")[:-len(BODY)])
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"name":"wait"')
        assert status(rest_of(connection)) == 400
    unharmed.check()


def test_noise(client, unharmed):
    for _ in range(50):
        answer = raw(client, os.urandom(2000) + b"\r\n\r\n")
        assert status(answer) in (None, 400, 505), answer
    unharmed.check()


def test_gone_in_the_middle(client, unharmed):
    """Reset before the answer, with the request whole and not: what the gateway had not got whole is not applied."""
    for request in (get(), sized(b"%d" % (len(BODY) + 1)), chunked(CHUNK)):
        connection = connect(client)
        connection.sendall(request)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        unharmed.check()
