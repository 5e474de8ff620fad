import json
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import BackendError, ImageMissing, ImageRefused
from backend.labelstudio import fetch
from backend.labelstudio.addresses import shown
from backend.labelstudio.images import ImageStore
from backend.labelstudio.tasks import Task, image_url
from tests.backend.labelstudio.pictures import encoded

Server = Any  # conftest.py has it
PERSONAL = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbiI6InJlZnJlc2gifQ.c2lnbmF0dXJl"


def resolves_to(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    found = [(None, None, None, "", (address, 80)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


# Label Studio


def test_an_upload_is_fetched_with_the_legacy_token(
    store: Callable[..., ImageStore], server: Server
) -> None:
    server.reply("/data/upload/1/a.png", encoded())
    images = store(label_studio_url=server.url, api_key="abc123", allowed_hosts=frozenset())
    assert images.fetch("/data/upload/1/a.png").image.size == (6, 4)
    assert images.fetch(f"{server.url}/data/upload/1/a.png").image.size == (6, 4)
    assert [request.authorization for request in server.requests] == ["Token abc123"]


@pytest.mark.parametrize(
    ("base", "url", "asked"),
    [
        ("/label-studio/", "/data/upload/1/a.png", "/label-studio/data/upload/1/a.png"),
        ("/label-studio", "/label-studio/data/upload/1/a.png", "/label-studio/data/upload/1/a.png"),
        ("", "/label-studio/data/upload/1/a.png", "/label-studio/data/upload/1/a.png"),
        ("", "/data/local-files/?d=a%20b.png", "/data/local-files/?d=a%20b.png"),
        ("", "/data/local-files?d=/a.png", "/data/local-files?d=/a.png"),
        ("", "http://studio.example/a/data/local-files/?d=a.png", "/data/local-files/?d=a.png"),
        ("", "/data/upload/1/ä b.png", "/data/upload/1/%C3%A4%20b.png"),
        ("", "/tasks/5/resolve/?fileuri=czM6Ly8=", "/tasks/5/resolve/?fileuri=czM6Ly8="),
    ],
)
def test_paths_of_label_studio_find_their_address(
    store: Callable[..., ImageStore], server: Server, base: str, url: str, asked: str
) -> None:
    server.reply(asked.partition("?")[0], encoded())
    store(label_studio_url=server.url + base).fetch(url)
    assert server.paths == [asked]


def test_a_personal_token_buys_access_and_renews_it_once(
    store: Callable[..., ImageStore], server: Server
) -> None:
    accesses = iter(["first", "second", "third"])
    valid = {"Bearer first"}

    def refresh(request: Any) -> dict[str, Any]:
        assert json.loads(request.body) == {"refresh": PERSONAL}
        assert request.authorization is None
        return {"body": json.dumps({"access": next(accesses)}).encode()}

    def upload(request: Any) -> dict[str, Any]:
        return {"body": encoded()} if request.authorization in valid else {"status": 401}

    server.decide("/api/token/refresh/", refresh)
    for name in "abcd":
        server.decide(f"/data/upload/1/{name}.png", upload)
    images = store(label_studio_url=server.url, api_key=PERSONAL)
    images.fetch("/data/upload/1/a.png")
    images.fetch("/data/upload/1/b.png")
    assert server.paths.count("/api/token/refresh/") == 1
    valid.clear()
    valid.add("Bearer second")
    images.fetch("/data/upload/1/c.png")
    assert server.paths.count("/api/token/refresh/") == 2
    valid.clear()
    with pytest.raises(ImageMissing, match="LABEL_STUDIO_API_KEY"):
        images.fetch("/data/upload/1/d.png")
    assert server.paths.count("/api/token/refresh/") == 3


@pytest.mark.parametrize("reply", [{"status": 401}, {"body": b"[]"}, {"body": b"not json"}])
def test_a_personal_token_that_is_refused_is_told(
    store: Callable[..., ImageStore], server: Server, reply: dict[str, Any]
) -> None:
    server.reply("/api/token/refresh/", **reply)
    with pytest.raises(ImageMissing) as refusal:
        store(label_studio_url=server.url, api_key=PERSONAL).fetch("/data/upload/1/a.png")
    assert PERSONAL not in str(refusal.value)


pieces = "http: // / [ ] @ : ?d= # %00 .. data:image/png;base64, /data/upload/ 127.0.0.1:1 ä A"
urls = st.lists(
    st.sampled_from([*pieces.split(), "/data/local-files/", "\ud800", "\0", "\n"]), max_size=6
).map("".join)


@given(urls)
def test_any_other_text_for_a_url_is_a_plain_refusal(url: str) -> None:
    nowhere = Path("/no/such/folder")
    images = ImageStore(
        cache_dir=nowhere,
        cache_bytes=0,
        label_studio_url="http://127.0.0.1:1",
        api_key=None,
        local_root=nowhere,
        allowed_hosts=frozenset({"127.0.0.1"}),
        max_bytes=100,
        max_pixels=100,
        timeout=1,
    )
    with pytest.raises(BackendError):
        images.fetch(url)


# Hosts


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://bucket/a.png", "its own tasks only"),
        ("gs://bucket/a.png", "its own tasks only"),
        ("file:///etc/passwd", "upload the image"),
        ("/etc/passwd", "upload the image"),
        ("C:\\pictures\\a.png", "upload the image"),
        ("a.png", "upload the image"),
        ("", "upload the image"),
        ("//127.0.0.1/data/upload/a.png", "upload the image"),
        ("ftp://127.0.0.1/a.png", "upload the image"),
        ("http://", "not an http(s) URL"),
        ("http://[::1/a.png", "not a valid URL"),
        ("http://127.0.0.1:99999/a.png", "not an http(s) URL"),
        ("/data/upload/1/a.png", "set LABEL_STUDIO_URL"),
        ("/data/local-files/?d=a.png", "set LABEL_STUDIO_URL"),
    ],
)
def test_other_addresses_are_refused_with_the_remedy(
    store: Callable[..., ImageStore], url: str, told: str
) -> None:
    with pytest.raises(ImageRefused) as refusal:
        store().fetch(url)
    assert told in str(refusal.value)


@pytest.mark.parametrize(
    "host",
    [
        *["127.0.0.1", "127.0.0.1.", "localhost", "2130706433", "0x7f.1", "0.0.0.0"],
        *["[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1", "192.168.1.1"],
        *["[64:ff9b::a9fe:a9fe]", "[2002:a00:1::1]", "[::10.0.0.1]", "[fec0::1]"],
    ],
)
def test_private_addresses_are_refused_unless_allowed(
    store: Callable[..., ImageStore], server: Server, host: str
) -> None:
    for home in (None, "http://127.0.0.1:1", f"http://studio.example:{server.port}"):
        images = store(allowed_hosts=frozenset(), label_studio_url=home)
        with pytest.raises(ImageRefused, match="private address"):
            images.fetch(f"http://{host}:{server.port}/a.png")
    assert server.requests == []


@pytest.mark.parametrize("answers", [["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"]])
def test_one_private_address_among_public_ones_is_enough_to_refuse(
    store: Callable[..., ImageStore], monkeypatch: pytest.MonkeyPatch, answers: list[str]
) -> None:
    resolves_to(monkeypatch, answers)
    with pytest.raises(ImageRefused, match=r"10\.0\.0\.1"):
        store(allowed_hosts=frozenset()).fetch("http://images.example/a.png")


def test_the_connection_goes_to_the_address_that_was_checked(
    store: Callable[..., ImageStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(address: tuple[str, int], timeout: float) -> socket.socket:
        asked.append(address[0])
        resolves_to(monkeypatch, ["127.0.0.1"])  # the name turns to us once it was checked
        raise OSError("unreachable")

    asked: list[str] = []
    addresses = ["8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808", "2002:808:808::1"]
    resolves_to(monkeypatch, addresses)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(ImageMissing, match="unreachable"):
        store(allowed_hosts=frozenset()).fetch("http://images.example/a.png")
    assert asked == addresses


def test_addresses_that_a_firewall_keeps_silent_leave_time_for_the_others(
    store: Callable[..., ImageStore], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        nonlocal now
        if address[0] != "127.0.0.1":
            now += timeout
            raise TimeoutError
        opened = socket.socket()
        opened.connect(address)
        return opened

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(fetch, "time", SimpleNamespace(monotonic=lambda: now))
    images = store(allowed_hosts=frozenset({"images.example"}), timeout=10.0)
    server.reply("/a.png", encoded())
    silent = [f"192.0.2.{number}" for number in range(5)]
    resolves_to(monkeypatch, [*silent, "127.0.0.1"])
    assert images.fetch(f"http://images.example:{server.port}/a.png").image.size == (6, 4)
    now = 0.0
    resolves_to(monkeypatch, silent)
    with pytest.raises(ImageMissing, match="took too long"):
        images.fetch("http://images.example/b.png")
    assert now == pytest.approx(2 * 10.0)


@pytest.mark.parametrize("entry", ["127.0.0.1", "127.0.0.1:{port}", "*", "LOCALHOST"])
def test_allowed_hosts_are_asked(
    store: Callable[..., ImageStore], server: Server, entry: str
) -> None:
    server.reply("/a.png", encoded())
    host = "localhost" if entry == "LOCALHOST" else "127.0.0.1"
    images = store(allowed_hosts=frozenset({entry.format(port=server.port)}))
    assert images.fetch(f"http://{host}:{server.port}/a.png").image.size == (6, 4)


def test_a_wildcard_allows_names_below_it(store: Callable[..., ImageStore]) -> None:
    images = store(allowed_hosts=frozenset({"*.invalid"}))
    with pytest.raises(ImageMissing, match="no host is named"):
        images.fetch("http://a.b.invalid/x.png")
    for host in ("invalid", "xinvalid", "invalid.example"):
        with pytest.raises(ImageRefused, match="IMAGE_HOSTS"):
            images.fetch(f"http://{host}/x.png")


@pytest.mark.parametrize("entry", ["example.com", "127.0.0.1:1"])
def test_a_list_of_hosts_shuts_out_all_others(
    store: Callable[..., ImageStore], server: Server, entry: str
) -> None:
    with pytest.raises(ImageRefused, match="IMAGE_HOSTS"):
        store(allowed_hosts=frozenset({entry})).fetch(f"{server.url}/a.png")
    assert server.requests == []


def test_redirects_are_followed(store: Callable[..., ImageStore], server: Server) -> None:
    for n in range(5):
        server.reply(f"/{n}", status=302, headers={"Location": f"/{n + 1}"})
    server.reply("/5", encoded())
    assert store().fetch(f"{server.url}/0").image.size == (6, 4)


def test_addresses_are_read_as_browsers_read_them(
    store: Callable[..., ImageStore], server: Server
) -> None:
    raw = "/pics/ä.png".encode().decode("latin-1")  # its bytes as they are, in a header
    server.reply("/pics/a.png", status=302, headers={"Location": raw})
    server.reply("/pics/%C3%A4.png", encoded())
    assert store().fetch(f"{server.url}\\pics\\a.png?at=C:\\").image.size == (6, 4)
    assert server.paths == ["/pics/a.png?at=C:%5C", "/pics/%C3%A4.png"]


def test_endless_redirects_end(store: Callable[..., ImageStore], server: Server) -> None:
    server.reply("/a", status=302, headers={"Location": "/a"})
    with pytest.raises(ImageMissing, match="more than 5 times"):
        store().fetch(f"{server.url}/a")
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    "target", ["http://localhost:{port}/b", "file:///etc/passwd", "//[::1]/", "//[x"]
)
def test_a_redirect_to_a_disallowed_place_is_refused(
    store: Callable[..., ImageStore], server: Server, target: str
) -> None:
    server.reply("/a", status=302, headers={"Location": target.format(port=server.port)})
    server.reply("/b", encoded())
    with pytest.raises((ImageRefused, ImageMissing)):
        store().fetch(f"{server.url}/a")
    assert server.paths == ["/a"]


@pytest.mark.parametrize("key", ["abc123", PERSONAL])
def test_the_token_never_leaves_label_studio(
    store: Callable[..., ImageStore], servers: Callable[[], Server], key: str
) -> None:
    home, other = servers(), servers()
    home.reply("/api/token/refresh/", b'{"access": "short-lived"}')
    home.reply(
        "/data/upload/1/a.png",
        status=303,
        headers={"Location": f"{other.url}/stored.png?signature=s"},
    )
    other.reply("/stored.png", encoded())
    other.reply("/direct.png", encoded())
    images = store(label_studio_url=home.url, api_key=key)
    images.fetch("/data/upload/1/a.png")
    images.fetch(f"{other.url}/direct.png")
    assert home.requests[-1].authorization in {"Token abc123", "Bearer short-lived"}
    assert home.requests[-1].method == "GET"
    assert other.paths == ["/stored.png?signature=s", "/direct.png"]
    for request in other.requests:
        assert request.authorization is None
        assert key not in str(request.headers)


# Failures


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "LABEL_STUDIO_API_KEY"),
        (403, "LABEL_STUDIO_API_KEY"),
        (404, "does not exist"),
        (500, "answered 500"),
        (304, "answered 304"),
    ],
)
def test_each_refusal_has_its_words(
    store: Callable[..., ImageStore], server: Server, status: int, told: str
) -> None:
    server.reply("/data/upload/1/a.png", status=status)
    for url in ("/data/upload/1/a.png", f"{server.url}/data/upload/1/a.png?signature=secret"):
        with pytest.raises(ImageMissing) as failure:
            store(label_studio_url=server.url, api_key="abc123").fetch(url)
        assert told in str(failure.value)
        assert "/data/upload/1/a.png" in str(failure.value)
        assert "secret" not in str(failure.value)


def test_what_lacks_in_cloud_storage_is_told_by_its_address_there(
    store: Callable[..., ImageStore], server: Server
) -> None:
    images = store(label_studio_url=server.url, api_key="abc123")
    url = image_url(Task(5, {"image": "s3://bucket/a.png"}), "image")
    with pytest.raises(ImageMissing, match=r"has no storage for s3://bucket/a\.png: add"):
        images.fetch(url)
    server.reply("/tasks/5/resolve/", status=424)
    with pytest.raises(ImageMissing, match=r"s3://bucket/a\.png could not be fetched"):
        images.fetch(url)


def test_messages_hold_no_secrets(store: Callable[..., ImageStore], server: Server) -> None:
    for url in (
        f"http://me:hunter2@127.0.0.1:{server.port}/a.png?token=hunter2#hunter2",
        "http://me:hunter2@localhost/a.png?token=hunter2",
        "http://me:hunter2@no-such-host.invalid/a.png?token=hunter2",
        "http://me:hunter2@127.0.0.1:1/a.png?token=hunter2",
        "s3://me:hunter2@bucket/a.png?token=hunter2",
    ):
        with pytest.raises(BackendError) as failure:
            store(allowed_hosts=frozenset({"127.0.0.1", "*.invalid"})).fetch(url)
        assert "hunter2" not in str(failure.value)
        assert "hunter2" not in str(failure.value.__cause__)
    assert all(request.authorization is None for request in server.requests)


def test_shown_urls_stay_short() -> None:
    assert shown("/data/local-files/?d=pics/a.png&key=s") == "/data/local-files/?d=pics/a.png"
    assert shown("/tasks/5/resolve/?fileuri=czM6Ly9i&key=s") == "s3://b"
    assert shown("data:image/png;base64,AAAA") == "data:image/png;base64,..."
    assert len(shown("http://host/" + "x" * 9999)) < 210
