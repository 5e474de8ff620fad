"""What a Label Studio project has of this backend: its connection and its webhooks."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from backend.labelstudio.client import Json, LabelStudio

_LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where Label Studio reaches this backend, and the credentials that it has to show there."""

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def webhook(self) -> str:
        """Where events go; Label Studio makes it up from the URL in this way."""
        return self.url.rstrip("/") + "/webhook"

    @property
    def headers(self) -> dict[str, str]:
        """What a webhook has to carry; Label Studio adds no credentials to webhooks itself."""
        if self.user is None:
            return {}
        credentials = f"{self.user}:{self.password or ''}".encode()
        return {"Authorization": f"Basic {b64encode(credentials).decode()}"}

    def fields(self) -> dict[str, Any]:
        """The fields of a connection that say where, and with which credentials."""
        if self.user is None:
            return {"url": self.url, "auth_method": "NONE"}
        return {
            "url": self.url,
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": self.user,
            "basic_auth_pass": self.password,
        }

    def admits(self, webhook: Mapping[str, Any]) -> bool:
        """Whether a webhook carries the credentials, if there are any to carry."""
        sent = webhook.get("headers") or {}
        return all(sent.get(name) == value for name, value in self.headers.items())


@dataclass(frozen=True, slots=True)
class Wiring:
    """A project's connections and webhooks; ours are those that lead to our address."""

    ours: tuple[Json, ...]
    others: tuple[Json, ...]
    webhooks: tuple[Json, ...]
    first: Json | None  # the connection that Label Studio asks for pre-annotations

    @classmethod
    def of(cls, studio: LabelStudio, project: int, address: Address) -> Self:
        """How a project is wired now."""
        backends = sorted(studio.ml_backends(project), key=lambda backend: backend["id"])
        ours = [b for b in backends if _place(b["url"]) == _place(address.url)]
        return cls(
            ours=tuple(ours),
            others=tuple(b for b in backends if b not in ours),
            webhooks=webhooks_to(address, studio.webhooks(project)),
            first=backends[0] if backends else None,
        )


def webhooks_to(address: Address, webhooks: Sequence[Json]) -> tuple[Json, ...]:
    """Those that lead to an address, the oldest first; the names of this machine count as one."""
    ours = [one for one in webhooks if _place(one["url"]) == _place(address.webhook)]
    return tuple(sorted(ours, key=lambda webhook: webhook["id"]))


def _place(url: str) -> tuple[str, str, int | None, str]:
    """What an address leads to; `localhost` and `127.0.0.1` lead to the same."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, "localhost" if host in _LOOPBACK else host, port, parts.path.rstrip("/")
