"""A TCP proxy on a port of its own that a test can cut, hold, slow down, or end in the middle of a reply.

Two ways: "up" is what the client sends, "down" what the server answers. restore() ends every fault but a reply that is already cut."""
import contextlib
import socket
import struct
import threading
import time

UP, DOWN = "up", "down"


class Pair:
    """One connection of a client and ours to the server."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.left = None        # bytes of the reply that still go through, once it is being cut

    def end(self, reset=False):
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        for end in (self.client, self.server):
            end.close()


class Proxy:
    def __init__(self, host, port):
        self.target = (host, int(port))
        self.open_pairs, self.lock = [], threading.Lock()
        self.flowing = {way: threading.Event() for way in (UP, DOWN)}
        for flow in self.flowing.values():
            flow.set()
        self.delay, self.piece = {UP: 0.0, DOWN: 0.0}, None
        self.cutting = None     # (bytes of a request, bytes of its reply that go through, how often still)
        self.replies_cut = 0
        self.last_words = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.accepting = True
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
            try:
                server = socket.create_connection(self.target, timeout=10)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = Pair(client, server)
            with self.lock:
                self.open_pairs.append(pair)
            threads = [threading.Thread(target=self._pump, args=(pair, *ends), daemon=True) for ends in ((client, server, UP), (server, client, DOWN))]
            for thread in threads:
                thread.start()
            threading.Thread(target=self._bury, args=(pair, threads), daemon=True).start()

    def _bury(self, pair, threads):
        for thread in threads:
            thread.join()
        with self.lock, contextlib.suppress(ValueError):
            self.open_pairs.remove(pair)
        pair.close()

    def _pump(self, pair, source, sink, way):
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                self.flowing[way].wait()
                if self.delay[way]:
                    time.sleep(self.delay[way])
                if way == UP:
                    self._look_for_cut(pair, block)
                    self._look_for_last_words(block)
                elif pair.left is not None:
                    sink.sendall(block[:pair.left])
                    self.replies_cut += 1
                    pair.end(reset=True)
                    return
                for piece in self._pieces(block):
                    sink.sendall(piece)
        pair.end()

    def _look_for_cut(self, pair, block):
        with self.lock:
            if self.cutting is None or self.cutting[0] not in block:
                return
            request, left, times = self.cutting
            self.cutting = (request, left, times - 1) if times > 1 else None
            pair.left = left

    def _look_for_last_words(self, block):
        if self.last_words is not None and self.last_words in block:
            self.flowing[DOWN].clear()

    def _pieces(self, block):
        return [block] if not self.piece else (block[at:at + self.piece] for at in range(0, len(block), self.piece))

    # ---- faults

    def cut(self, reset=False):
        """Ends every connection; new ones are closed at once."""
        self.accepting = False
        self.drop(reset)

    def drop(self, reset=True):
        """Ends every connection; new ones go through."""
        with self.lock:
            for pair in self.open_pairs:
                pair.end(reset)
            self.open_pairs.clear()

    def restore(self):
        self.accepting = True
        self.delay, self.piece, self.cutting, self.last_words = {UP: 0.0, DOWN: 0.0}, None, None, None
        for flow in self.flowing.values():
            flow.set()

    def hold(self, *ways):
        """Bytes stop, in one direction or both; connections stay."""
        for way in ways or (UP, DOWN):
            self.flowing[way].clear()

    def hold_after(self, words):
        """From when a client sends these bytes on, nothing comes back from the server."""
        self.last_words = words

    def slow(self, seconds, *ways):
        """Each block comes so much later."""
        for way in ways or (UP, DOWN):
            self.delay[way] = seconds

    def slice(self, size):
        """Blocks come in pieces of so many bytes."""
        self.piece = size

    def cut_reply(self, request, left=0, times=1):
        """A request that has these bytes reaches the server; of its reply only so many come back, then the connection is reset."""
        with self.lock:
            self.cutting = (request, left, times)

    def close(self):
        self.cut()
        for flow in self.flowing.values():
            flow.set()
        self.listener.close()
