"""Who may ask: with the user and password, if they are set, and from no other site's page."""

from __future__ import annotations

import hmac
from base64 import b64decode

from backend.errors import BadRequest, Unauthorized

# Probes of Docker and Kubernetes carry no credentials. Wrong ones are refused here too, since
# Label Studio explains a refusal only when it meets one at /health.
OPEN = frozenset({"/health"})


def check(path: str, header: str | None, user: str, password: str) -> None:
    """Pass, or raise Unauthorized."""
    if header is None and path.rstrip("/") in OPEN:
        return
    scheme, _, packed = (header or "").partition(" ")
    if scheme.lower() != "basic":
        raise Unauthorized(
            "This backend asks for a user and password. In Label Studio, set them on the backend "
            "(Basic authentication) and as an Authorization header on its webhook."
        )
    try:
        given = b64decode(packed)
    except ValueError:
        given = b""
    # Label Studio writes Latin-1, as requests do with text; browsers and curl write UTF-8
    told = f"{user}:{password}"
    right = told.encode(), told.encode("latin-1", "backslashreplace")
    if not any(hmac.compare_digest(given, one) for one in right):
        raise Unauthorized("Wrong user or password: see BASIC_AUTH_USER and BASIC_AUTH_PASS.")


def check_site(site: str | None, origin: str | None, host: str) -> None:
    """Pass, or raise BadRequest for what another site's page sends.

    Browsers let every page send forms and text anywhere, with a visitor's credentials, and tell
    whose it is by `Sec-Fetch-Site`, whatever a proxy makes of the host. Without TLS they leave that
    off, but for localhost; then `Origin` has to be the host that is asked. Programs send neither.
    """
    if site is not None:
        ours = site in {"same-origin", "none"}
    else:
        ours = origin is None or origin.partition("://")[2] == host
    if not ours:
        raise BadRequest(
            "This was sent by another site's page, or through a proxy that does not pass on the "
            "Host header: let it (nginx: proxy_set_header Host $http_host)."
        )
