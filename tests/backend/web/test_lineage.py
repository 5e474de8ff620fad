"""Versions on the page, and their reports."""

import json
import re
from html import unescape
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from backend.learning.card import Card
from backend.learning.versions import CARD, Versions
from backend.settings import Settings
from backend.web import app as module
from backend.web.lineage import MOST_PROJECTS
from tests.backend.learning.history import BASE, make
from tests.backend.web.finding import BROWSER, PlaygroundQueue


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    for name in ("PredictionQueue", "TrainingLane"):
        monkeypatch.setattr(module, name, lambda connection: connection)
    settings = Settings(model_dir=tmp_path, basic_auth_user="u", basic_auth_pass="p")
    app = module.create_app(settings, PlaygroundQueue())  # type: ignore[arg-type]
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = "Basic dTpw"
    return client


def rows(client: FlaskClient) -> list[str]:
    """The rows of the table of versions as text."""
    html = client.get("/", headers=BROWSER).get_data(as_text=True)
    section = html[html.index('<section id="versions"') :]
    section = section[: section.index("</section>")]
    rows = re.findall(r"<tr.*?</tr>", section, re.DOTALL)
    return [" ".join(unescape(re.sub(r"<[^>]+>", " ", row)).split()) for row in rows]


def test_a_project_without_versions_is_told_how_to_get_one(client: FlaskClient) -> None:
    html = client.get("/", headers=BROWSER).get_data(as_text=True)
    assert "No project has a version of its own yet" in html


def test_versions_come_newest_first_with_state_data_and_figures(
    client: FlaskClient, tmp_path: Path
) -> None:
    first, rejected, served = make(tmp_path)
    _, *told = rows(client)
    assert [line.split()[0] for line in told[::2]] == [
        served.id[:8],
        rejected.id[:8],
        first.id[:8],
        "base",
    ]
    newest, why, *_ = told
    assert newest.split()[1] == "served"
    assert f" {first.id[:8]} 36 0.62 → 0.78 90 % of 10 0.98" in newest
    assert newest.endswith("12 min")
    assert why == "mean IoU 0.62 -> 0.78 on 6 held-out tasks"
    assert "rejected" in told[2]
    assert "retired" in told[4]
    assert "20 % of 10" in told[6]


def test_what_serves_is_marked_even_if_it_is_the_base(client: FlaskClient, tmp_path: Path) -> None:
    make(tmp_path)
    for _ in range(2):
        Versions(tmp_path).rollback(3)
    marked = [line.split()[0] for line in rows(client) if " served" in line]
    assert marked == ["base"]


def test_what_is_served_is_shown_among_the_latest_however_many_there_are(
    client: FlaskClient, tmp_path: Path
) -> None:
    versions = Versions(tmp_path)
    made = [versions.keep(3, bytes([n]), Card(BASE)) for n in range(15)]
    versions.activate(3, made[1].id, "")
    _, *told = rows(client)
    latest = [one.id[:8] for one in reversed(made[5:])]
    assert [line.split()[0] for line in told] == [*latest, made[1].id[:8], "base"]
    page = client.get("/", headers=BROWSER).text
    assert "4 older ones" in page
    assert "more project" not in page


def test_projects_that_are_not_shown_are_counted(client: FlaskClient, tmp_path: Path) -> None:
    for project in range(1, 23):
        Versions(tmp_path).keep(project, b"", Card(BASE))
    page = client.get("/", headers=BROWSER).text
    assert page.count("<h3 id=") == 20
    assert "2 more projects have versions" in page
    assert page.index(">What happens<") < page.index(">Versions<")


@pytest.mark.parametrize("images", [{"training": "20"}, {"training": None}, [20], "20"], ids=str)
def test_images_that_are_no_counts_leave_the_page_standing(
    client: FlaskClient, tmp_path: Path, images: object
) -> None:
    Versions(tmp_path).keep(3, b"", Card(BASE, metrics={"data": {"images": images}}))
    assert " base – " in rows(client)[1]


def test_reasons_are_shown_as_text(client: FlaskClient, tmp_path: Path) -> None:
    make(tmp_path)
    html = client.get("/", headers=BROWSER).get_data(as_text=True)
    assert "&lt;b&gt;Car&lt;/b&gt;" in html
    assert "<b>Car</b>" not in html


def test_a_report_is_served_with_its_own_style_and_nothing_else(
    client: FlaskClient, tmp_path: Path
) -> None:
    make(tmp_path)
    html = client.get("/", headers=BROWSER).get_data(as_text=True)
    (link,) = re.findall(r'href="(/reports/[^"]+)"', html)
    with client.get(link) as answer:
        assert answer.mimetype == "text/html"
        assert b"Report" in answer.data
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    with client.get(link.replace(".html", ".json")) as answer:
        assert answer.get_json() == {}


@pytest.mark.parametrize(
    "name",
    ["../active.json", "..%2Factive.json", "%2e%2e/active.json", ".lock", f"{'0' * 16}.html", "x"],
)
def test_nothing_but_reports_is_served(client: FlaskClient, tmp_path: Path, name: str) -> None:
    make(tmp_path)
    assert client.get(f"/reports/3/{name}").status_code == 404
    assert client.get(f"/reports/../3/{name}").status_code == 404


def test_reports_want_the_password_as_everything_does(client: FlaskClient, tmp_path: Path) -> None:
    *_, served = make(tmp_path)
    client.environ_base.pop("HTTP_AUTHORIZATION")
    assert client.get(f"/reports/3/{served.id}.html").status_code == 401


def test_versions_tell_programs_what_was_accepted(client: FlaskClient, tmp_path: Path) -> None:
    *_, served = make(tmp_path)
    told = client.get("/versions?project=3").get_json()
    accepted = told["accepted"]["weights"]
    assert accepted[served.id[:8]]["untouched_share"] == 0.9
    assert accepted[BASE[:8]]["predicted"] == 10
    assert "an assumption" in told["accepted"]["assumption"]


def test_figures_follow_what_is_measured(client: FlaskClient, tmp_path: Path) -> None:
    make(tmp_path)
    assert "90 % of 10" in " ".join(rows(client))
    (tmp_path / "3/acceptance.json").write_text('{"annotations": []}')
    assert "% of 10" not in " ".join(rows(client))


@pytest.mark.parametrize(
    "nonsense", [10**400, -5, 1.5, "high", [0.5]], ids=lambda one: str(one)[:9]
)
def test_a_figure_that_cannot_be_meant_is_left_out_of_the_page(
    client: FlaskClient, tmp_path: Path, nonsense: object
) -> None:
    *_, served = make(tmp_path)
    card = tmp_path / "3" / served.id / CARD
    edited = json.loads(card.read_text())
    edited["metrics"] |= {"iou": nonsense, "active_iou": nonsense}
    card.write_text(json.dumps(edited))
    (newest,) = (line for line in rows(client) if line.startswith(served.id[:8]))
    assert "36 90 % of 10" in newest.replace("– ", "").replace("- ", "")


def test_of_many_projects_only_those_that_are_shown_are_read_for_each_page(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = Versions(tmp_path)
    for project in range(1, MOST_PROJECTS + 11):
        versions.keep(project, f"{project}".encode(), Card(BASE))
    first = rows(client)
    read: list[Path] = []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    assert rows(client) == first
    assert len([path for path in read if path.name == CARD]) == MOST_PROJECTS


def test_a_version_that_came_since_the_last_page_brings_its_project_to_the_top(
    client: FlaskClient, tmp_path: Path
) -> None:
    versions = Versions(tmp_path)
    for project in range(1, MOST_PROJECTS + 11):
        versions.keep(project, f"{project}".encode(), Card(BASE))
    rows(client)
    new = versions.keep(1, b"newer", Card(BASE))
    assert rows(client)[1].startswith(new.id[:8])
