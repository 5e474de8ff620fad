"""Downloads for tasks: which hosts may be asked, who gets the token, how much is read.

A task's URL is written by whoever may import tasks, and fetched from inside the network this runs
in. So every hop is checked, redirects included, and the connection goes to the very address that
was checked: a name that resolves differently a moment later gains nothing. Proxies are not used.
"""

import functools
import json
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import certifi

from backend.errors import ImageMissing, ImageRefused, ImageUnreadable
from backend.labelstudio.addresses import (
    LOCAL_FILES,
    OWN,
    PORTS,
    in_cloud,
    is_public,
    local_file,
    origin,
    shown,
)
from backend.labelstudio.tasks import CLOUD
from backend.labelstudio.token import REFRESH, Token

_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
_WAITS = 2  # a download may take this many times the timeout of a single wait, all in all
_GZIP = {"gzip", "x-gzip", "deflate"}


def too_large(name: str, limit: int) -> ImageUnreadable:
    """The error for a file of more than `limit` bytes."""
    return ImageUnreadable(f"{name} has more than {limit / 2**20:g} MB, the limit (IMAGE_MAX_MB)")


@dataclass(frozen=True, slots=True)
class _Answer:
    status_code: int
    location: str | None
    body: bytes


class Fetcher:
    """Downloads from Label Studio, and from other hosts as far as they are allowed.

    A host is allowed if it is Label Studio's own, or if `allowed_hosts` names it: "host",
    "host:port", "*.example.com", or "*" for any. Without such a list, every host is allowed whose
    addresses are all public. The token is sent to Label Studio's own origin and nowhere else;
    credentials inside a URL are never sent.
    """

    def __init__(
        self,
        *,
        label_studio_url: str | None,
        api_key: str | None,
        allowed_hosts: frozenset[str],
        max_bytes: int,
        timeout: float,
        ca_bundle: Path | None = None,
    ) -> None:
        self._label_studio = (label_studio_url or "").rstrip("/")
        self._home = origin(self._label_studio) if self._label_studio else None
        api_key = (api_key or "").strip()
        self._token = Token(api_key, self._refresh) if api_key else None
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._ca_bundle = ca_bundle

    def locate(self, url: str) -> str:
        """The http(s) URL behind a task's link; a path is taken to be Label Studio's.

        So is a local file's URL under another name of it, such as the one that browsers know. A
        backslash in an http(s) URL's path is a slash, as browsers have it.

        Raises:
            ImageRefused: Nothing that could be fetched over HTTP.
        """
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise ImageRefused(f"{shown(url)} is not a valid URL: {error}") from error
        if parts.scheme in PORTS:
            if self._label_studio and local_file(url) is not None:
                return f"{self._label_studio}{LOCAL_FILES}?{parts.query}"
            path, mark, query = url.partition("?")
            return path.replace("\\", "/") + mark + query
        if parts.scheme in CLOUD:
            raise ImageRefused(
                f"{shown(url)} is a cloud storage address: Label Studio fetches it for its own "
                "tasks only"
            )
        if parts.scheme or parts.netloc or not OWN.match(parts.path):
            raise ImageRefused(
                f"{shown(url)} is not an address to fetch from: use an http(s) URL, upload the "
                f"image, or serve its folder through Label Studio as {LOCAL_FILES}?d=..."
            )
        if not self._label_studio:
            raise ImageRefused(
                f"{shown(url)} is a path on Label Studio: "
                "set LABEL_STUDIO_URL to the address where this backend reaches it"
            )
        prefix = urlsplit(self._label_studio).path
        if prefix and parts.path.startswith(f"{prefix}/"):
            url = url.removeprefix(prefix)
        return self._label_studio + url

    def latest(self) -> float:
        """When a download that begins now has to be over, as `time.monotonic` counts."""
        return time.monotonic() + _WAITS * self._timeout

    def fetch(self, url: str, until: float) -> bytes:
        """The bytes at an http(s) URL, redirects and all within twice the timeout.

        `until`, of `latest`, may end it earlier.

        Raises:
            ImageRefused: The host, or one it redirects to, is not allowed.
            ImageMissing: There was no good answer; the message says which.
            ImageUnreadable: The answer is larger than allowed, or compressed in no known way.
        """
        name = shown(url)
        until = min(until, self.latest())
        for _ in range(1 + _MOST_REDIRECTS):
            answer = self._get(url, until)
            if answer.status_code == 200:
                return answer.body
            if answer.status_code not in _REDIRECTS or not answer.location:
                raise self._failure(name, url, answer.status_code)
            try:
                # http.client takes the bytes for Latin-1, browsers for UTF-8
                location = answer.location.encode("latin-1").decode("utf-8", "replace")
                url = urljoin(url, location)
            except ValueError as error:
                raise ImageMissing(f"{name} is redirected to no valid URL") from error
        raise ImageMissing(f"{name} is redirected more than {_MOST_REDIRECTS} times")

    def _get(self, url: str, until: float) -> _Answer:
        if self._token is None or origin(url) != self._home:
            return self._ask(url, until, {})
        return self._token.authorize(lambda headers: self._ask(url, until, headers))

    def _refresh(self, api_key: str) -> str:
        url = self._label_studio + REFRESH
        body = json.dumps({"refresh": api_key}).encode()
        answer = self._ask(url, self.latest(), {"Content-Type": "application/json"}, body)
        if answer.status_code != 200:
            raise self._failure(shown(url), url, answer.status_code)
        try:
            return str(json.loads(answer.body)["access"])
        except (ValueError, KeyError, TypeError) as error:
            raise ImageMissing(f"{shown(url)} did not answer with an access token") from error

    def _ask(
        self, url: str, until: float, headers: Mapping[str, str], body: bytes | None = None
    ) -> _Answer:
        """One request, repeated once if the connection breaks."""
        _, host, _ = origin(url)
        try:
            try:
                return self._exchange(url, until, headers, body)
            except (ConnectionError, HTTPException):
                return self._exchange(url, until, headers, body)
        except TimeoutError as error:
            raise ImageMissing(f"{host} took too long to answer for {shown(url)}") from error
        except (socket.gaierror, UnicodeError) as error:
            raise ImageMissing(f"cannot fetch {shown(url)}: no host is named {host}") from error
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise ImageMissing(f"cannot fetch {shown(url)}: {reason}") from error

    def _exchange(
        self, url: str, until: float, headers: Mapping[str, str], body: bytes | None
    ) -> _Answer:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection, opened = self._connect(url, until)
        try:
            with _over_by(until, opened):
                if isinstance(opened, ssl.SSLSocket):
                    opened.do_handshake()
                connection.request(
                    "GET" if body is None else "POST",
                    quote(target, safe="/?%:@!$&'()*+,;=~"),
                    body,
                    {
                        "User-Agent": "promptbrush",
                        "Accept": "*/*",
                        "Connection": "close",
                        **headers,
                    },
                )
                # it has the socket from here on, and is closed whatever becomes of the body
                with connection.getresponse() as response:
                    content = self._read(response, shown(url)) if response.status == 200 else b""
            return _Answer(response.status, response.getheader("Location"), content)
        finally:
            connection.close()

    def _read(self, response: HTTPResponse, name: str) -> bytes:
        """The body, unpacked, unless it is too large or cut short."""
        expected = response.length  # None where the end of the connection tells
        content = bytearray()
        while len(content) != expected and (piece := response.read1(1 << 16)):
            content += piece
            if max(len(content), expected or 0) > self._max_bytes:
                raise too_large(name, self._max_bytes)
        if len(content) < (expected or 0):
            raise ConnectionError(f"it broke off after {len(content)} of {expected} bytes")
        packed = (response.getheader("Content-Encoding") or "identity").strip().lower()
        return bytes(content) if packed == "identity" else self._unpacked(content, packed, name)

    def _unpacked(self, content: bytearray, packed: str, name: str) -> bytes:
        """A body without the compression that some hosts send unasked."""
        if packed not in _GZIP:
            raise ImageUnreadable(f"{name} comes compressed ({packed[:60]}), unasked")
        unpacker = zlib.decompressobj(wbits=47)  # gzip's header or zlib's
        try:
            plain = unpacker.decompress(content, self._max_bytes + 1)
        except zlib.error as error:
            raise ImageUnreadable(f"{name} is not compressed as its host says: {error}") from error
        if len(plain) > self._max_bytes:
            raise too_large(name, self._max_bytes)
        if not unpacker.eof:
            raise ConnectionError("its compressed bytes break off")
        return plain

    def _connect(self, url: str, until: float) -> tuple[HTTPConnection, socket.socket]:
        """A connection to the first address that answers, of those that passed the check.

        And its socket, which a connection forgets before the body of an answer is read.
        """
        scheme, host, port = origin(url)
        opened = _open_socket(self._addresses(url, host, port), port, self._timeout, until)
        if scheme == "http":
            connection = HTTPConnection(host, port)
        else:
            opened = self._tls.wrap_socket(
                opened, server_hostname=host, do_handshake_on_connect=False
            )
            connection = HTTPSConnection(host, port, context=self._tls)
        connection.sock = opened
        return connection, opened

    def _addresses(self, url: str, host: str, port: int) -> list[str]:
        """The host's addresses, where it is trusted or all of them are public."""
        entries = {"*", host, f"{host}:{port}"}
        entries |= {f"*{host[at:]}" for at, letter in enumerate(host) if letter == "."}
        at_home = self._home is not None and self._home[1:] == (host, port)
        trusted = at_home or bool(self._allowed_hosts & entries)
        if self._allowed_hosts and not trusted:
            raise ImageRefused(f"{shown(url)} may not be fetched: {host} is not in IMAGE_HOSTS")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            if not (trusted or is_public(address)):
                raise ImageRefused(
                    f"{shown(url)} may not be fetched: {host} is at the private address {address}; "
                    f"add {host} to IMAGE_HOSTS if it can be trusted"
                )
        return addresses

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        """Trusts the system's certificates, certifi's, which a bare system lacks, and the set ones.

        Those are what `requests` trusts where it asks Label Studio.
        """
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        if self._ca_bundle is not None:
            own = "capath" if self._ca_bundle.is_dir() else "cafile"
            context.load_verify_locations(**{own: str(self._ca_bundle)})
        return context

    def _failure(self, name: str, url: str, status: int) -> ImageMissing:
        host = urlsplit(url).hostname
        if status == 404 and origin(url) == self._home and in_cloud(url):
            return ImageMissing(
                f"Label Studio has no storage for {name}: add it to the project under Settings > "
                "Cloud Storage"
            )
        if status not in {401, 403}:
            told = "does not exist" if status in {404, 410} else "could not be fetched"
            return ImageMissing(f"{name} {told}: {host} answered {status}")
        if origin(url) != self._home:
            return ImageMissing(
                f"{host} answered {status} for {name}: its link may have expired; "
                "LABEL_STUDIO_API_KEY is sent to LABEL_STUDIO_URL only"
            )
        return ImageMissing(
            f"Label Studio answered {status} for {name}: set LABEL_STUDIO_API_KEY to the token of "
            "a user who may see the project"
        )


@contextmanager
def _over_by(until: float, opened: socket.socket) -> Iterator[None]:
    """Ends what is read from a socket meanwhile: its own timeout begins anew with every byte.

    Raises:
        TimeoutError: The time is over; what was read until then may be cut anywhere.
    """

    def end() -> None:
        with suppress(OSError):  # it is closed already
            socket.socket.shutdown(opened, socket.SHUT_RDWR)  # TLS would say goodbye first

    timer = threading.Timer(until - time.monotonic(), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, HTTPException):
        if time.monotonic() < until:
            raise
    finally:
        timer.cancel()
    if time.monotonic() >= until:
        raise TimeoutError


def _open_socket(addresses: list[str], port: int, timeout: float, until: float) -> socket.socket:
    """To the first address that answers; each may take its share of the time that is left."""
    first, *others = addresses
    patience = min(timeout, (until - time.monotonic()) / len(addresses))
    if patience <= 0:
        raise TimeoutError
    try:
        opened = socket.create_connection((first, port), patience)
    except OSError:
        if not others:
            raise
        return _open_socket(others, port, timeout, until)
    opened.settimeout(timeout)
    return opened
