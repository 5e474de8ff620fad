"""HTTP Basic authentication, when a user and password are set."""

from __future__ import annotations

import hmac
from base64 import b64decode

from backend.errors import Unauthorized

# Probes of Docker and Kubernetes carry no credentials. Wrong ones are refused here too, since
# Label Studio explains a refusal only when it meets one at /health.
OPEN = frozenset({"/health"})


def check(path: str, header: str | None, user: str, password: str) -> None:
    """Pass, or raise Unauthorized."""
    if header is None and path in OPEN:
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
