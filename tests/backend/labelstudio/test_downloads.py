"""How long a download may take, how large it may be, and what becomes of it otherwise."""

import base64
import gzip
import hashlib
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from backend.errors import ImageMissing, ImageUnreadable
from backend.labelstudio import fetch
from backend.labelstudio.images import ImageStore
from tests.backend.labelstudio.pictures import encoded

Server = Any  # conftest.py has it
COMPANY = Path(__file__).with_name("localhost.pem")  # signed by nobody else, with its key


def test_a_slow_server_is_left(store: Callable[..., ImageStore], server: Server) -> None:
    server.reply("/a.png", encoded(), wait=1.0)
    with pytest.raises(ImageMissing, match="took too long"):
        store(timeout=0.1).fetch(f"{server.url}/a.png")
    assert len(server.requests) == 1


def test_a_server_that_drips_is_left(store: Callable[..., ImageStore], server: Server) -> None:
    server.reply("/a.png", bytes(1000), drip=0.01)
    with pytest.raises(ImageMissing, match="took too long"):
        store(timeout=0.1).fetch(f"{server.url}/a.png")


def test_a_download_that_is_left_keeps_no_connection(
    store: Callable[..., ImageStore], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[socket.socket] = []

    def opening(*where: Any) -> socket.socket:
        opened.append(open_socket(*where))
        return opened[-1]

    open_socket = fetch._open_socket
    monkeypatch.setattr(fetch, "_open_socket", opening)
    server.reply("/a.png", bytes(200_000))
    with pytest.raises(ImageUnreadable) as held:  # its traceback has all that was in reach
        store(max_bytes=1000).fetch(f"{server.url}/a.png")
    assert [one.fileno() for one in opened] == [-1], held


def test_a_server_whose_headers_drip_is_left(store: Callable[..., ImageStore]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                for letter in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
                    connection.send(bytes([letter]))
                    time.sleep(0.01)

        threading.Thread(target=drip, daemon=True).start()
        with pytest.raises(ImageMissing, match="took too long"):
            store(timeout=0.1).fetch(f"http://127.0.0.1:{listening.getsockname()[1]}/a.png")


def test_a_download_is_one_however_often_it_is_redirected(
    store: Callable[..., ImageStore], server: Server
) -> None:
    for step in range(4):
        server.reply(f"/{step}", status=302, headers={"Location": f"/{step + 1}"}, wait=0.15)
    with pytest.raises(ImageMissing, match="took too long"):
        store(timeout=0.2).fetch(f"{server.url}/0")


def test_a_closed_port_is_told(store: Callable[..., ImageStore]) -> None:
    with pytest.raises(ImageMissing, match="refused"):
        store().fetch("http://127.0.0.1:1/a.png")


def test_a_broken_connection_is_tried_once_more(
    store: Callable[..., ImageStore], server: Server
) -> None:
    data = encoded()
    replies = iter([{"body": data, "length": len(data) + 9}, {"body": data}])
    server.decide("/a.png", lambda _: next(replies))
    assert store().fetch(f"{server.url}/a.png").image.size == (6, 4)
    server.reply("/b.png", data, length=len(data) + 9)
    with pytest.raises(ImageMissing, match="broke off"):
        store().fetch(f"{server.url}/b.png")
    assert len(server.requests) == 4


def test_an_answer_without_length_is_read_to_its_end(
    store: Callable[..., ImageStore], server: Server
) -> None:
    data = encoded()
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    server.reply("/a.png", chunks, headers={"Transfer-Encoding": "chunked", "Content-Length": ""})
    assert store().fetch(f"{server.url}/a.png").digest == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("X-GZip", gzip.compress), ("deflate", zlib.compress)],
)
def test_a_compressed_answer_is_unpacked(
    store: Callable[..., ImageStore],
    server: Server,
    coding: str,
    pack: Callable[[bytes], bytes],
) -> None:
    data = encoded()
    server.reply("/a.png", pack(data), headers={"Content-Encoding": coding})
    assert store().fetch(f"{server.url}/a.png").digest == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("coding", "body", "told"),
    [
        ("gzip", gzip.compress(bytes(10**7), mtime=0), "IMAGE_MAX_MB"),
        ("gzip", b"GIF89a", "not compressed as its host says"),
        ("br", b"GIF89a", r"compressed \(br\), unasked"),
        ("gzip", gzip.compress(bytes(100), mtime=0)[:-9], "break off"),
    ],
)
def test_a_compressed_answer_is_bounded_and_checked(
    store: Callable[..., ImageStore], server: Server, coding: str, body: bytes, told: str
) -> None:
    server.reply("/a.png", body, headers={"Content-Encoding": coding})
    with pytest.raises((ImageUnreadable, ImageMissing), match=told):
        store().fetch(f"{server.url}/a.png")


@pytest.mark.parametrize("length", [None, 10**9])
def test_too_many_bytes_are_refused(
    store: Callable[..., ImageStore], server: Server, length: int | None, tmp_path: Path
) -> None:
    data = encoded() + bytes(100_000)
    server.reply("/a.png", data, length=length)
    (tmp_path / "a.png").write_bytes(data)
    images = store(max_bytes=len(data) - 1, local_root=tmp_path)
    packed = base64.b64encode(data).decode()
    for url in (
        f"{server.url}/a.png",
        "/data/local-files/?d=a.png",
        f"data:image/png;base64,{packed}",
    ):
        with pytest.raises(ImageUnreadable, match="IMAGE_MAX_MB"):
            images.fetch(url)


@pytest.fixture
def own() -> Iterator[int]:
    """The port of a host with the company's own certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(COMPANY)
    body = encoded()
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True) as host:

        def serve() -> None:
            for _ in range(2):
                with suppress(OSError):  # the first client leaves
                    client, _ = host.accept()
                    with client:
                        client.recv(1000)
                        client.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield host.getsockname()[1]


def test_hosts_that_a_companys_own_certificates_vouch_for_are_trusted(
    store: Callable[..., ImageStore], own: int
) -> None:
    url = f"https://127.0.0.1:{own}/a.png"
    with pytest.raises(ImageMissing, match="certificate verify failed"):
        store().fetch(url)
    assert store(ca_bundle=COMPANY).fetch(url).image.size == (6, 4)


def test_a_certificate_for_another_host_vouches_for_nobody(
    store: Callable[..., ImageStore], own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, *rest, **more: resolve("127.0.0.1", *rest, **more)
    )
    images = store(ca_bundle=COMPANY, allowed_hosts=frozenset({"pictures.example"}))
    with pytest.raises(ImageMissing, match="certificate is not valid for"):
        images.fetch(f"https://pictures.example:{own}/a.png")
