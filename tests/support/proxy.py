"""A TCP proxy before Redis that loses one answer, as a broken network would."""

import contextlib
import socket
import threading
from typing import Self

from muleteer.embedded import HOST


class Proxy:
    """Passes connections on to ``port``; the first answer that holds ``needle`` is lost with its connection."""

    def __init__(self, port: int, needle: bytes) -> None:
        self._target = port
        self._needle = needle
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self.cut = False
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for item in [self._listener, *self._sockets]:
            _end(item)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection((HOST, self._target))
            self._sockets += [client, server]
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65_536):
                if answers and not self.cut and self._needle in data:
                    self.cut = True
                    break
                sink.sendall(data)
        except OSError:
            pass  # the other direction has ended the connection
        _end(source)
        _end(sink)


def _end(item: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended already
        item.shutdown(socket.SHUT_RDWR)
    item.close()
