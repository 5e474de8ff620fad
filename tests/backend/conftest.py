"""A host that answers as told, and image stores that may ask it."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from backend.labelstudio.client import LabelStudio
from backend.labelstudio.images import ImageStore
from tests.backend.fake_label_studio import TOKEN, FakeLabelStudio, serving


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Message
    body: bytes

    @property
    def authorization(self) -> str | None:
        return self.headers["Authorization"]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.path).query))


@dataclass(frozen=True)
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None  # what Content-Length claims; None tells the truth
    wait: float = 0.0  # before the answer
    drip: float = 0.0  # before each byte of it


@dataclass
class Server:
    """A host on 127.0.0.1, its replies by path without query, and all requests it got."""

    url: str = ""
    replies: dict[str, Reply | Callable[[Request], Reply]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def reply(self, path: str, body: bytes = b"", **rest: Any) -> None:
        self.replies[path] = Reply(body, **rest)

    def decide(self, path: str, choose: Callable[[Request], dict[str, Any]]) -> None:
        """Reply with what `choose` makes of the request, in keywords of a `Reply`."""
        self.replies[path] = lambda request: Reply(**choose(request))

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        reply = self.replies.get(request.path.partition("?")[0], Reply(status=404))
        return reply if isinstance(reply, Reply) else reply(request)


def _start() -> tuple[Server, ThreadingHTTPServer]:
    host = Server()

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            reply = host.answer(Request(self.command, self.path, self.headers, body))
            time.sleep(reply.wait)
            self.send_response(reply.status)
            length = len(reply.body) if reply.length is None else reply.length
            for name, value in {"Content-Length": str(length), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            for piece in [bytes([byte]) for byte in reply.body] if reply.drip else [reply.body]:
                time.sleep(reply.drip)
                self.wfile.write(piece)

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:  # the client has heard enough
                self.close_connection = True

    http = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    http.block_on_close = False
    host.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    return host, http


@pytest.fixture
def servers() -> Iterator[Callable[[], Server]]:
    """Starts one more host with each call."""
    started = []

    def start() -> Server:
        server, http = _start()
        started.append(http)
        return server

    yield start
    for http in started:
        http.shutdown()
        http.server_close()


@pytest.fixture
def server(servers: Callable[[], Server]) -> Server:
    return servers()


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., ImageStore]:
    """Builds a store that may ask 127.0.0.1; keywords change its options."""

    def build(**changes: Any) -> ImageStore:
        options: dict[str, Any] = {
            "cache_dir": tmp_path / "cache",
            "cache_bytes": 10**6,
            "label_studio_url": None,
            "api_key": None,
            "local_root": None,
            "allowed_hosts": frozenset({"127.0.0.1"}),
            "max_bytes": 10**6,
            "max_pixels": 10**6,
            "timeout": 5.0,
        }
        return ImageStore(**{**options, **changes})

    return build


@pytest.fixture
def studio() -> Iterator[FakeLabelStudio]:
    """A fake Label Studio, served over HTTP."""
    with serving() as fake:
        yield fake


@pytest.fixture
def client(studio: FakeLabelStudio) -> LabelStudio:
    """Its API, as promptbrush calls it."""
    return LabelStudio(studio.url, TOKEN)
