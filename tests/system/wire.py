"""HTTP as bytes: what no client library would send, and what comes back."""
import socket


def connect(client, seconds=30):
    host, port = client.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=seconds)


def rest_of(connection):
    """What comes until the gateway closes. A reset is an end too: the gateway does not read on after some errors."""
    answer = b""
    try:
        while block := connection.recv(65536):
            answer += block
    except ConnectionError:
        pass
    return answer


def raw(client, request, *, half_close=False):
    """Bytes in, bytes out until the gateway closes."""
    with connect(client) as connection:
        try:
            connection.sendall(request)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # it has answered and closed meanwhile
        return rest_of(connection)


def status(answer):
    """The code of an answer; None when none came."""
    return int(answer.split(b" ", 2)[1]) if answer else None


def next_status(answers):
    """The code of the next answer of a connection that stays open, read as a file; its body is passed over."""
    code, length = status(answers.readline()), 0
    while header := answers.readline().strip():
        name, _, value = header.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    answers.read(length)
    return code


def statuses(answer):
    """The codes of all answers, those of pipelined requests for instance."""
    return [status(b"HTTP/1.1" + part) for part in answer.split(b"HTTP/1.1")[1:]]
