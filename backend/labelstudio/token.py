"""How a request shows Label Studio who asks.

A legacy token is sent as it is. A personal access token is a JWT that only buys access: it is
exchanged for a token that holds for minutes, and for the next one once that is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeVar

REFRESH = "/api/token/refresh/"  # takes {"refresh": personal token}, answers {"access": ...}

UNAUTHORIZED = 401


class Answer(Protocol):
    """An HTTP answer, of whichever library."""

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        ...


A = TypeVar("A", bound=Answer)


class Token:
    """An API key of either kind; `exchange` buys access with a personal one."""

    def __init__(self, api_key: str, exchange: Callable[[str], str]) -> None:
        self._api_key = api_key
        self._exchange = exchange
        self._access: str | None = None

    @property
    def kind(self) -> Literal["legacy", "personal"]:
        """Which kind it is, by its looks."""
        is_jwt = self._api_key.startswith("eyJ") and self._api_key.count(".") == 2
        return "personal" if is_jwt else "legacy"

    def authorize(self, send: Callable[[Mapping[str, str]], A]) -> A:
        """What `send` returns when it is given the headers; raises what the exchange raises."""
        if self.kind == "legacy":
            return send({"Authorization": f"Token {self._api_key}"})
        if self._access:
            answer = send({"Authorization": f"Bearer {self._access}"})
            if answer.status_code != UNAUTHORIZED:
                return answer
        self._access = self._exchange(self._api_key)
        return send({"Authorization": f"Bearer {self._access}"})
