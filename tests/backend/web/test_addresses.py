"""What any address answers with, beside the page itself."""

import pytest
from flask.testing import FlaskClient

from tests.backend.web.finding import BROWSER


@pytest.mark.parametrize("path", ["/nowhere", "/static/page.css", "/samples/01-table.jpg"])
def test_browsers_guess_no_types_and_tell_no_other_site_where_they_were(
    client: FlaskClient, path: str
) -> None:
    headers = client.get(path, headers=BROWSER, buffered=True).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_a_page_is_asked_for_anew_and_kept_by_nobody_between(client: FlaskClient) -> None:
    assert client.get("/nowhere", headers=BROWSER).headers["Cache-Control"] == "private, no-cache"


@pytest.mark.parametrize("path", ["/nowhere", "/samples/nothing.jpg", "/reports/3/no.html"])
def test_a_wrong_address_is_told_to_browsers_as_a_page_and_to_programs_as_json(
    client: FlaskClient, path: str
) -> None:
    page = client.get(path, headers=BROWSER)
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert 'role="alert"' in page.text
    assert 'href="/"' in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    answer = client.get(path)
    assert (answer.status_code, answer.get_json()["error"]) == (404, "NotFound")


def test_samples_are_the_demo_images_only(client: FlaskClient) -> None:
    assert client.get("/samples/..%2Fcard.py").status_code == 404
    assert client.get("/samples/nothing.jpg").status_code == 404
