"""What the addresses of images say: where they lead, and how they are shown to people."""

import ipaddress
import re
from base64 import urlsafe_b64decode
from urllib.parse import parse_qs, urlsplit

from backend.errors import ImageRefused

PORTS = {"http": 80, "https": 443}
LOCAL_FILES = "/data/local-files/"
# What Label Studio serves: uploads, local files, and cloud files that it signs or passes on.
OWN = re.compile(
    r"(/[^/]+)*/(data/(upload|local-files)|(tasks|projects)/\d+/(resolve|presign))(/|$)"
)
# Where the last four bytes are an IPv4 address: NAT64 (RFC 6052), and IPv4-compatible ones.
_HOLD_IPV4 = ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96")


def shown(url: str) -> str:
    """The URL for messages and logs: no credentials, no query (where signatures are), no end."""
    if url[:5].lower() == "data:":
        return f"{url.partition(',')[0][:60]},..."
    if stored := in_cloud(url):
        return shown(stored)
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the image URL"
    host = parts.netloc.rpartition("@")[2]
    text = f"{parts.scheme}://{host}{parts.path}" if host else f"{parts.scheme}:{parts.path}"
    text = text.removeprefix(":") + (f"?d={file}" if (file := local_file(url)) else "")
    return text if len(text) <= 200 else f"{text[:200]}..."


def is_public(address: str) -> bool:
    """Whether an address is the internet's, and leads to no private IPv4 one that it holds."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.sixtofour:
            return ip.sixtofour.is_global
        if any(ip in network for network in _HOLD_IPV4):
            return ipaddress.IPv4Address(ip.packed[-4:]).is_global
        if ip.is_site_local:
            return False
    return ip.is_global


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port.

    Raises:
        ImageRefused: The URL has none, or is not http(s).
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        if not host:
            raise ValueError("it names no host")
        return parts.scheme, host, parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError) as error:
        raise ImageRefused(f"{shown(url)} is not an http(s) URL that can be used") from error


def in_cloud(url: str) -> str | None:
    """The address in cloud storage that a path of Label Studio's passes on."""
    try:
        parts = urlsplit(url)
        (named,) = parse_qs(parts.query)["fileuri"]
        return urlsafe_b64decode(named).decode() if OWN.match(parts.path) else None
    except (KeyError, ValueError):
        return None


def local_file(url: str) -> str | None:
    """The relative path that Label Studio's local file URLs hold, or None for other URLs."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme not in {"", *PORTS} or not parts.path.startswith("/"):
        return None
    served = f"{parts.path.rstrip('/')}/".endswith(LOCAL_FILES)  # its slash may be missing
    named = parse_qs(parts.query).get("d") if served else None
    return named[0].lstrip("/") if named else None  # all are below the root, as in Label Studio
