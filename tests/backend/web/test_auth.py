"""Who is let in, and what is told to the others."""

from base64 import b64encode

import pytest
from flask.testing import FlaskClient

from backend.settings import Settings
from backend.web import app as module
from tests.backend.web.instant import InstantQueue, body

USER, PASSWORD = "jürgen", "s3cret: grün"


@pytest.fixture
def client(queue: InstantQueue) -> FlaskClient:
    settings = Settings(basic_auth_user=USER, basic_auth_pass=PASSWORD)
    return module.create_app(settings, queue).test_client()  # type: ignore[arg-type]


def test_every_address_but_health_asks_for_credentials(client: FlaskClient) -> None:
    rules, values = client.application.url_map, {"name": "x", "filename": "x", "project": 3}
    addresses = [
        (method, rules.bind("localhost").build(rule.endpoint, values, method, append_unknown=False))
        for rule in rules.iter_rules()
        for method in rule.methods or ()
    ]
    assert len(addresses) > 20
    answers = {one: client.open(one[1], method=one[0]).status_code for one in addresses}
    open_to_all = {one for one, told in answers.items() if told != 401}
    assert {path for _, path in open_to_all} == {"/health"}
    assert client.get("/nowhere").status_code == 401


def status(client: FlaskClient, path: str, header: str | None) -> int:
    headers = {} if header is None else {"Authorization": header}
    return client.get(path, headers=headers).status_code


def basic(told: str, encoding: str) -> str:
    return "Basic " + b64encode(told.encode(encoding)).decode()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_credentials_are_understood_as_browsers_and_as_label_studio_write_them(
    client: FlaskClient, encoding: str
) -> None:
    assert status(client, "/versions", basic(f"{USER}:{PASSWORD}", encoding)) == 200
    assert status(client, "/versions", basic(f"{USER}:{PASSWORD}!", encoding)) == 401


@pytest.mark.parametrize(
    "header", [None, "", "Basic", "Basic %", "Basic ä", "Bearer x", "Basic Og=="]
)
def test_what_is_no_or_another_credential_is_refused(
    client: FlaskClient, header: str | None
) -> None:
    assert status(client, "/versions", header) == 401
    assert status(client, "/health", header) == (200 if header is None else 401)
    assert status(client, "/health/", header) == (200 if header is None else 401)


def test_who_sends_nothing_is_told_what_is_asked_for(client: FlaskClient) -> None:
    answer = client.get("/versions")
    assert "user and password" in body(answer)["detail"]
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
