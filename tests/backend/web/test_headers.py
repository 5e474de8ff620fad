"""What browsers are told to do with what they get."""

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
