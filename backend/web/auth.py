"""HTTP Basic authentication, when a user and password are set."""

from __future__ import annotations

import hmac

from werkzeug.datastructures import Authorization

from backend.errors import Unauthorized

# Probes of Docker and Kubernetes carry no credentials. Wrong ones are refused here too, since
# Label Studio explains a refusal only when it meets one at /health.
OPEN = frozenset({"/health"})


def check(path: str, given: Authorization | None, user: str, password: str) -> None:
    """Pass, or raise Unauthorized."""
    if given is None and path in OPEN:
        return
    if given is None or given.type != "basic":
        raise Unauthorized(
            "This backend asks for a user and password. In Label Studio, set them on the backend "
            "(Basic authentication) and as an Authorization header on its webhook."
        )
    right_user = hmac.compare_digest((given.username or "").encode(), user.encode())
    right_pass = hmac.compare_digest((given.password or "").encode(), password.encode())
    if not (right_user and right_pass):
        raise Unauthorized("Wrong user or password: see BASIC_AUTH_USER and BASIC_AUTH_PASS.")
