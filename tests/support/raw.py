"""HTTP as no library would send it: bytes on a socket."""

import contextlib
import socket
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit


@dataclass
class RawResponse:
    """One answer, as it came."""

    status_code: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()


class RawConnection:
    """A socket to a service; use as a context manager."""

    def __init__(self, url: str, timeout: float = 20) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=timeout)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Self:
        self.socket.sendall(data)
        return self

    def send_while_taken(self, data: bytes) -> Self:
        """Send as much as the other side takes: it may have answered and closed before it read everything."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)
        return self

    def response(self) -> RawResponse:
        """Read one answer that has a Content-Length."""
        head, _, rest = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = int(headers["content-length"])
        while len(rest) < length:
            rest += self._read()
        self._rest = rest[length:]
        return RawResponse(int(lines[0].split(" ")[1]), headers, rest[:length])

    def closed(self) -> bool:
        """Tell whether the other side closes the connection without another byte (waits for it)."""
        try:
            return not self._rest and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _until(self, mark: bytes) -> bytes:
        data, self._rest = self._rest, b""
        while mark not in data:
            data += self._read()
        return data

    def _read(self) -> bytes:
        data = self.socket.recv(65_536)
        assert data, "the connection ended before the answer was complete"
        return data


def request(path: str, body: bytes = b"", *headers: str, method: str = "POST") -> bytes:
    """Return a request's bytes; Content-Length and Content-Type are added unless given."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers]
    names = {header.partition(":")[0].lower() for header in headers}
    if not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    if "content-type" not in names:
        lines.append("Content-Type: application/json")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
