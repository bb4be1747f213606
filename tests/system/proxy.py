"""A TCP proxy on a port of its own that a test can cut or hold."""
import contextlib
import socket
import threading


class Proxy:
    def __init__(self, host, port):
        self.target = (host, int(port))
        self.open_pairs, self.lock = [], threading.Lock()
        self.flowing = threading.Event()
        self.flowing.set()
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
            server.settimeout(None)
            with self.lock:
                self.open_pairs.append((client, server))
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                self.flowing.wait()
                sink.sendall(block)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        """Ends every connection; new ones are closed at once."""
        self.accepting = False
        with self.lock:
            for pair in self.open_pairs:
                for end in pair:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
            self.open_pairs.clear()

    def restore(self):
        self.accepting = True
        self.flowing.set()

    def hold(self):
        """Bytes stop; connections stay."""
        self.flowing.clear()

    def close(self):
        self.cut()
        self.flowing.set()
        self.listener.close()
