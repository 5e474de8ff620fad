"""Requests to Label Studio: who asks, what counts as an answer, and refusals in words."""

from __future__ import annotations

import ssl
import time
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NoReturn, TypeVar
from urllib.parse import urljoin

import requests

from backend.errors import LabelStudioError, LabelStudioRefused, LabelStudioUnavailable
from backend.labelstudio.token import REFRESH, Token

_QUOTED = 500  # characters of an answer that go into a message
SHORTEST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds, whatever Label Studio or a proxy asks for
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}  # OpenSSL's words, older and newer
_LATER = {408, 429}  # it took too long to be asked, or is asked too often: it says no for now

T = TypeVar("T")


class Api:
    """Label Studio at an address, which may have a path, as the user whose token is given.

    Every request raises LabelStudioUnavailable if there is no good answer in time, and
    LabelStudioRefused if Label Studio says no. Nothing is sent twice: what may have been carried
    out is left to the caller.
    """

    def __init__(self, url: str, api_key: str, timeout: float) -> None:
        self.url = url.rstrip("/")
        self.token = Token(api_key.strip(), self._buy_access)
        self._timeout = timeout
        self._session = requests.Session()
        self._session.headers["User-Agent"] = "promptbrush"
        # Label Studio hands out a session cookie, which would count more than the token.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def call(self, method: str, path: str, **rest: Any) -> Any:
        """The JSON that a request is answered with; None where the answer is empty."""
        answer = self.token.authorize(
            lambda headers: self._send(method, path, headers=headers, **rest)
        )
        return self._read(answer)

    def call_for(self, kind: type[T], method: str, path: str, **rest: Any) -> T:
        """The same, of a kind: what answers something else is no Label Studio."""
        content = self.call(method, path, **rest)
        if not isinstance(content, kind):
            raise LabelStudioError(
                f"{self.url}{path} answers, but not as Label Studio: check LABEL_STUDIO_URL"
            )
        return content

    def call_openly(self, path: str) -> Any:
        """The JSON of what everybody may read; the token is not sent."""
        return self._read(self._send("GET", path))

    def _buy_access(self, personal: str) -> str:
        answer = self._send("POST", REFRESH, json={"refresh": personal})
        if answer.status_code in {400, 401}:
            raise LabelStudioRefused(
                f"{self.url} does not take the personal access token: it has expired, was revoked, "
                "or belongs to another Label Studio. Make a new one under Account & Settings",
                answer.status_code,
            )
        access = self._read(answer)
        if not isinstance(access, dict) or not isinstance(access.get("access"), str):
            raise LabelStudioError(f"{self.url}{REFRESH} did not answer with an access token")
        return str(access["access"])

    def _send(self, method: str, path: str, **rest: Any) -> requests.Response:
        try:
            return self._session.request(
                method,
                self.url + path,
                timeout=self._timeout,
                # a redirected POST would arrive as a GET
                allow_redirects=False,
                auth=as_given,
                **rest,
            )
        except requests.Timeout:
            raise LabelStudioUnavailable(
                f"{self.url} did not answer within {self._timeout:g} seconds"
            ) from None
        except requests.RequestException as error:
            raise LabelStudioUnavailable(
                f"Label Studio cannot be reached at {self.url}: {_explained(_cause(error))}"
            ) from None

    def _read(self, answer: requests.Response) -> Any:
        if not answer.ok or answer.is_redirect:
            self._refuse(answer)
        if answer.status_code == 204 or not answer.content:
            return None
        try:
            return answer.json()
        except requests.JSONDecodeError:
            # a proxy's page, or half an answer: Label Studio itself never answers so
            raise LabelStudioUnavailable(
                f"{_place(answer)} answers with something else than JSON: check LABEL_STUDIO_URL"
            ) from None

    def _refuse(self, answer: requests.Response) -> NoReturn:
        asked = f"{answer.request.method} {_place(answer)}"
        if answer.is_redirect:
            target = urljoin(answer.url, answer.headers["Location"])
            raise LabelStudioRefused(
                f"{asked} is redirected to {target.partition('?')[0]}: set LABEL_STUDIO_URL to the "
                "address that Label Studio has itself, with the right scheme",
                answer.status_code,
            )
        told = f"Label Studio answers {answer.status_code} to {asked}"
        if answer.status_code == 401:
            remedy = (
                "legacy tokens may be switched off in the organization: take a personal access "
                "token, or start Label Studio with LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true"
                if self.token.kind == "legacy"
                else "take another token under Account & Settings"
            )
            raise LabelStudioRefused(f"{told}: it does not know the token; {remedy}", 401)
        if answer.status_code == 404 and not _is_json(answer):
            # a proxy's page while Label Studio is away, or the path of a page in the address
            raise LabelStudioUnavailable(
                f"{told} with something else than JSON: check LABEL_STUDIO_URL, its address "
                "without the path of a page"
            )
        reason = _reason(answer)
        if answer.status_code >= 500 or answer.status_code in _LATER:
            raise LabelStudioUnavailable(f"{told}: {reason}", _after(answer))
        raise LabelStudioRefused(f"{told}: {reason}", answer.status_code)


def _place(answer: requests.Response) -> str:
    """What was asked, without the query, which may be long."""
    return answer.url.partition("?")[0]


def _after(answer: requests.Response) -> float | None:
    """In how many seconds to ask again, as `Retry-After` says it (RFC 9110, 10.2.3)."""
    said = answer.headers.get("Retry-After", "")
    try:
        seconds = parsedate_to_datetime(said).timestamp() - time.time()
    except ValueError:
        if not said.isdecimal():
            return None
        seconds = float(said)
    return min(max(SHORTEST_WAIT, seconds), LONGEST_WAIT)


def as_given(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """To be given as `auth`, or requests prefers what a .netrc file has for the host."""
    return request


def _is_json(answer: requests.Response) -> bool:
    try:
        answer.json()
    except requests.JSONDecodeError:
        return False
    return True


def _reason(answer: requests.Response) -> str:
    """Label Studio's own words, with those that matter first."""
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        return answer.reason
    if not isinstance(body, dict):
        return str(body)[:_QUOTED]
    errors = body.get("validation_errors")
    if isinstance(errors, dict):
        told = [
            text if field == "non_field_errors" else f"{field}: {text}"
            for field, texts in errors.items()
            for text in (texts if isinstance(texts, list) else [texts])
        ]
        return "; ".join(map(str, told))[:_QUOTED]
    return str(body.get("detail") or body)[:_QUOTED]


def _cause(error: BaseException) -> BaseException:
    """The innermost reason, without addresses in memory and retry counts."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error


def _explained(cause: BaseException) -> str:
    """Why nothing was reached, and what to do about it."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({cause.verify_message}). If a company's own "
            "authority vouches for it, set REQUESTS_CA_BUNDLE to that one's certificate"
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
        return "what listens there speaks no https: begin LABEL_STUDIO_URL with http://"
    told = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return f"{told}. Is it running, and is LABEL_STUDIO_URL its address as seen from here?"
