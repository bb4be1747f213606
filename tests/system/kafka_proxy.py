"""A way to Kafka of one program's own, that a test can cut or hold, and on which it can make the broker say what it did not.

Kafka tells its clients where to go: answers that name the broker's address name the proxy's here, so that nothing goes past it."""
import collections
import contextlib
import socket
import struct
import threading

PRODUCE, INIT_PRODUCER_ID = 0, 22
OUT_OF_ORDER_SEQUENCE_NUMBER, CLUSTER_AUTHORIZATION_FAILED = 45, 31


def read_exactly(connection, length):
    data = b""
    while len(data) < length:
        block = connection.recv(min(65536, length - len(data)))
        if not block:
            raise ConnectionError("closed")
        data += block
    return data


def frames(connection):
    """Each request or response, without its length."""
    while True:
        length, = struct.unpack(">i", read_exactly(connection, 4))
        yield read_exactly(connection, length)


def error_at(api, version, answer):
    """Where the (first) error code of an answer stands."""
    if api == INIT_PRODUCER_ID:
        return 4 + (version >= 2) + 4       # correlation id, tags since version 2, throttle time
    name, = struct.unpack_from(">h", answer, 8)
    return 8 + 2 + name + 4 + 4             # one topic, one partition: name, count, number


class KafkaProxy:
    def __init__(self, brokers):
        host, _, port = brokers.partition(":")
        self.target = (host, int(port))
        self.open, self.lock = [], threading.Lock()
        self.flowing, self.accepting = threading.Event(), True
        self.flowing.set()
        self.lies = collections.defaultdict(list)       # by API: errors that the next answers have
        self.seen = collections.Counter()               # requests by API
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if not self.accepting:
                client.close()
                continue
            server = socket.create_connection(self.target, timeout=10)
            server.settimeout(None)
            with self.lock:
                self.open.append((client, server))
            asked = {}
            for pump in (self._requests, self._answers):
                threading.Thread(target=self._run, args=(pump, client, server, asked), daemon=True).start()

    def _run(self, pump, client, server, asked):
        with contextlib.suppress(OSError):
            pump(client, server, asked)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _requests(self, client, server, asked):
        for request in frames(client):
            api, version, correlation = struct.unpack_from(">hhi", request)
            asked[correlation] = (api, version)
            self.seen[api] += 1
            self.flowing.wait()
            server.sendall(struct.pack(">i", len(request)) + request)

    def _answers(self, client, server, asked):
        real, mine = (b"127.0.0.1" + struct.pack(">i", port) for port in (self.target[1], self.port))
        for answer in frames(server):
            api, version = asked.pop(struct.unpack_from(">i", answer)[0])
            answer = bytearray(answer.replace(real, mine))
            if self.lies[api]:
                struct.pack_into(">h", answer, error_at(api, version, answer), self.lies[api].pop(0))
            self.flowing.wait()
            client.sendall(struct.pack(">i", len(answer)) + answer)

    def lie(self, api, error):
        """The next answer to that API says this error, whatever the broker did."""
        self.lies[api].append(error)

    def hold(self):
        """Bytes stop; connections stay."""
        self.flowing.clear()

    def cut(self):
        """Ends every connection; new ones are closed at once."""
        self.accepting = False
        with self.lock:
            for pair in self.open:
                for end in pair:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
            self.open.clear()
        self.flowing.set()      # what was held goes to closed connections

    def restore(self):
        self.accepting = True
        self.flowing.set()

    def close(self):
        self.cut()
        self.listener.close()
