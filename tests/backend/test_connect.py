"""Connecting, against a fake Label Studio that has the oddities of the real one."""

from base64 import b64encode
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from backend import cli
from backend.connect import address, connect, find_or_create, label_studio, upload
from backend.errors import CONFIG_FAULT, BadLabelConfig, BadSetting, LabelStudioError
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.starter import label_config
from backend.labelstudio.wiring import Address
from backend.settings import Settings
from tests.backend.fake_label_studio import BLOCKED, TOKEN, FakeLabelStudio

Server = Any  # conftest.py has it

OURS = Address("http://127.0.0.1:9090", "ml", "secret")
SECRET = f"Basic {b64encode(b'ml:secret').decode()}"


def test_a_project_is_wired_up(studio: FakeLabelStudio, client: LabelStudio) -> None:
    number = studio.add_project()
    studio.credentials = ("ml", "secret")
    connect(client, number, OURS)
    [backend] = studio.backends.values()
    assert backend["is_interactive"]
    [webhook] = studio.webhooks.values()
    assert webhook["url"] == "http://127.0.0.1:9090/webhook"
    assert webhook["headers"] == {"Authorization": SECRET}
    assert studio.projects[number]["model_version"] == backend["title"] == "clipseg-1-1"


def test_connecting_again_changes_nothing(studio: FakeLabelStudio, client: LabelStudio) -> None:
    number = studio.add_project()
    first = connect(client, number, OURS)
    before = (studio.projects, studio.backends, studio.webhooks)
    before_text = repr(before)
    assert connect(client, number, OURS) == first
    assert repr(before) == before_text


def test_what_is_doubled_or_bare_is_put_right(studio: FakeLabelStudio, client: LabelStudio) -> None:
    number = studio.add_project()
    for url in ("http://localhost:9090/", "http://127.0.0.1:9090"):
        client.create_ml_backend(project=number, url=url, title="by hand")
    client.create_webhook(project=number, url="http://127.0.0.1:9090/webhook", is_active=False)
    client.create_webhook(project=number, url="http://elsewhere:9090/webhook")
    connect(client, number, OURS)
    [backend] = studio.backends.values()
    assert (backend["url"], backend["is_interactive"]) == (OURS.url, True)
    ours, elsewhere = studio.webhooks.values()
    assert (ours["url"], ours["is_active"]) == (OURS.webhook, True)
    assert ours["headers"] == {"Authorization": SECRET}
    assert elsewhere["headers"] == {}


def test_a_new_version_takes_the_place_of_the_old(
    studio: FakeLabelStudio, client: LabelStudio
) -> None:
    number = studio.add_project()
    connect(client, number, OURS)
    studio.model_version = "clipseg-1-2"
    connect(client, number, OURS)
    [backend] = studio.backends.values()
    assert studio.projects[number]["model_version"] == backend["title"] == "clipseg-1-2"


def test_without_authentication_nothing_secret_is_sent(
    studio: FakeLabelStudio, client: LabelStudio
) -> None:
    connect(client, studio.add_project(), Address("http://127.0.0.1:9090"))
    [backend], [webhook] = studio.backends.values(), studio.webhooks.values()
    assert backend["auth_method"] == "NONE"
    assert webhook["headers"] == {}


def test_sampling_is_left_alone_unless_it_is_asked_for(
    studio: FakeLabelStudio, client: LabelStudio
) -> None:
    number = studio.add_project()
    connect(client, number, OURS)
    assert studio.projects[number]["sampling"] == "Sequential sampling"
    connect(client, number, OURS, "uniform")
    assert studio.projects[number]["sampling"] == "Uniform sampling"


def test_an_older_connection_to_something_else_is_told(
    studio: FakeLabelStudio, client: LabelStudio
) -> None:
    number = studio.add_project()
    client.create_ml_backend(project=number, url="http://other:9090", title="other")
    told = connect(client, number, OURS)[-1]
    assert "http://other:9090" in told
    assert "its webhook in Settings > Webhooks" in told


def test_what_cannot_be_used_of_a_labeling_configuration_is_told(
    studio: FakeLabelStudio, client: LabelStudio
) -> None:
    listed = '<View><Image name="pages" valueList="$pages"/>'
    number = studio.add_project("album", label_config(["Car"]).replace("<View>", listed, 1))
    assert "valueList" in connect(client, number, OURS)[-1]


@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [
        (BLOCKED, "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false"),
        ("Can't connect to ML backend x, health check failed.", "--host 0.0.0.0"),
        ("... authentication parameters were not ...", "BASIC_AUTH_PASS"),
        (
            "it doesn't look like a valid ML backend. Reason: 401 Client Error: UNAUTHORIZED for",
            "BASIC_AUTH_PASS",
        ),
        ("it doesn't look like a valid ML backend. Reason: 404", "its log says why"),
    ],
)
def test_a_refusal_comes_with_its_remedy(
    studio: FakeLabelStudio, client: LabelStudio, refusal: str, remedy: str
) -> None:
    studio.refuses_backends = refusal
    with pytest.raises(LabelStudioError, match=remedy) as failure:
        connect(client, studio.add_project(), OURS)
    assert "secret" not in str(failure.value)


def test_a_connection_without_its_webhook_is_mended_once_that_is_allowed(
    studio: FakeLabelStudio, client: LabelStudio
) -> None:
    number = studio.add_project()
    studio.refuses_webhooks = BLOCKED
    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false"):
        connect(client, number, OURS)
    assert studio.backends
    assert not studio.webhooks
    studio.refuses_webhooks = None
    connect(client, number, OURS)
    assert len(studio.backends) == len(studio.webhooks) == 1


def test_a_backend_without_a_model_yet_is_told(
    studio: FakeLabelStudio, client: LabelStudio
) -> None:
    studio.model_version = None
    with pytest.raises(LabelStudioError, match="not loaded its model yet"):
        connect(client, studio.add_project(), OURS)


def test_a_project_with_nothing_to_fill_is_not_connected(
    studio: FakeLabelStudio, client: LabelStudio
) -> None:
    number = studio.add_project(label_config="<View><Text name='t' value='$t'/></View>")
    with pytest.raises(BadLabelConfig):
        connect(client, number, OURS)
    assert not studio.backends


def test_a_title_names_one_project(studio: FakeLabelStudio, client: LabelStudio) -> None:
    xml = label_config(["dog"])
    made, _ = find_or_create(client, "Dogs", xml)
    assert studio.projects[made]["label_config"] == xml
    assert find_or_create(client, " Dogs ", label_config(["cat"])) == (
        made,
        f"Project {made}, 'Dogs', is there already and keeps its labels.",
    )
    studio.add_project("Dogs")
    with pytest.raises(LabelStudioError, match="--project"):
        find_or_create(client, "Dogs", xml)


def test_labels_are_refused_for_a_project_that_has_its_own(
    studio: FakeLabelStudio, capsys: pytest.CaptureFixture[str]
) -> None:
    number = studio.add_project()
    command = ["connect", "--label-studio", studio.url, "--api-key", TOKEN]
    assert cli.main([*command, "--project", str(number), "--labels", "dog"]) == 1
    assert "has labels of its own" in capsys.readouterr().err
    assert not studio.backends


def test_an_address_of_something_else_is_not_told_as_a_project_that_is_missing(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of this backend itself, where the two addresses were swapped."""
    for path in ("/api/version", "/api/projects/3"):
        server.reply(path, b'{"error": "NotFound"}', status=404)
    command = ["connect", "--label-studio", server.url, "--api-key", TOKEN, "--project", "3"]
    assert cli.main(command) == 1
    assert "not as Label Studio: check LABEL_STUDIO_URL" in capsys.readouterr().err


def test_a_started_labeling_configuration_is_usable_whatever_the_labels() -> None:
    labels = ["dog", 'a "quoted" <tag>', "5 & 6", "Æther"]
    config = parse_label_config(label_config(labels))
    [brush] = config.outputs
    assert [label.value for label in brush.labels] == labels
    assert config.problems == ()
    assert [text.name for text in config.texts if text.smart] == ["prompt"]


def test_labels_are_told_apart_by_colour_and_have_one_in_all_tools() -> None:
    xml = ElementTree.fromstring(label_config(["dog", "cat", "car"]))
    colours = [label.get("background") for label in xml.iter("Label")]
    assert len(set(colours)) == 3
    assert colours[:3] == colours[3:6] == colours[6:]


def test_many_labels_scroll_and_leave_the_image_in_sight() -> None:
    xml = ElementTree.fromstring(label_config([f"a long name {n}" for n in range(30)]))
    holders = [one for one in xml.iter("View") for tag in one if tag.tag.endswith("Labels")]
    assert len(holders) == 3
    assert all("max-height: 9em; overflow: auto" in one.get("style", "") for one in holders)


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", "localhost"), ("127.0.0.1", "localhost"), ("gpu", "gpu")]
)
def test_the_address_is_where_this_machine_serves(host: str, shown: str) -> None:
    assert address(Settings(host=host, port=91)).url == f"http://{shown}:91"
    assert address(Settings(host=host), "http://proxy/ml/").url == "http://proxy/ml"


@pytest.mark.parametrize("backend", ["localhost:9090", "http://localhost:90900", "http://[::1", ""])
def test_a_backend_whose_address_is_none_is_told_before_anything_is_done(
    studio: FakeLabelStudio, capsys: pytest.CaptureFixture[str], backend: str
) -> None:
    command = ["connect", "--label-studio", studio.url, "--api-key", TOKEN, "--create", "Dogs"]
    with pytest.raises(SystemExit):
        cli.main([*command, "--backend", backend])
    assert "--backend: expected an address such as http://" in capsys.readouterr().err
    assert not studio.projects


def test_a_missing_address_or_token_is_named() -> None:
    with pytest.raises(BadSetting, match="LABEL_STUDIO_API_KEY"):
        label_studio(Settings(label_studio_url="http://studio"))
    with pytest.raises(BadSetting, match="LABEL_STUDIO_URL"):
        label_studio(Settings(label_studio_api_key="key"))


def test_the_command_makes_a_project_with_images_and_says_where_it_is(
    studio: FakeLabelStudio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "one.png"
    image.write_bytes(b"png")
    command = ["connect", "--label-studio", studio.url, "--api-key", TOKEN, "--create", "Dogs"]
    assert cli.main([*command, "--labels", "dog", "--images", str(image)]) == 0
    [number] = studio.projects
    assert f"{studio.url}/projects/{number}/data" in capsys.readouterr().out
    assert cli.main([*command, "--labels", "cat", "--images", str(image)]) == 0
    assert "is there already and keeps its labels" in capsys.readouterr().out
    assert studio.uploads == ["one.png"]


@pytest.mark.parametrize("title", ["", "  "])
def test_a_project_without_a_title_is_not_made(
    studio: FakeLabelStudio, capsys: pytest.CaptureFixture[str], title: str
) -> None:
    command = ["connect", "--label-studio", studio.url, "--api-key", TOKEN, "--create", title]
    assert cli.main(command) == 1
    assert capsys.readouterr().err == "promptbrush: A project needs a title: --create TITLE.\n"
    assert not studio.projects


@pytest.mark.parametrize("label", ["", "a\x01b", "\udcff"])
def test_a_project_whose_labels_nothing_can_fill_is_not_made(
    studio: FakeLabelStudio, capsys: pytest.CaptureFixture[str], label: str
) -> None:
    command = ["connect", "--label-studio", studio.url, "--api-key", TOKEN, "--create", "Dogs"]
    assert cli.main([*command, "--labels", label]) == 1
    assert "the labeling configuration" in capsys.readouterr().err
    assert not studio.projects


def test_the_command_adds_all_images_or_none(
    studio: FakeLabelStudio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [tmp_path / "one.png", tmp_path / "two.png", tmp_path / "Caf\udce9.png"]
    images[0].write_bytes(b"png")
    images[2].write_bytes(b"png")  # its name is in Latin-1
    command = ["connect", "--label-studio", studio.url, "--api-key", TOKEN, "--create", "Dogs"]
    command += ["--labels", "dog", "--images", *map(str, images)]
    assert cli.main(command) == 1
    assert "two.png" in capsys.readouterr().err
    images[1].write_bytes(b"png")
    assert cli.main(command) == 0
    assert studio.uploads == ["one.png", "two.png", "Caf\ufffd.png"]


def test_an_image_that_label_studio_does_not_take_keeps_no_other_away(
    studio: FakeLabelStudio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [tmp_path / name for name in ("one.png", "two.heic", "three.png")]
    for image in images:
        image.write_bytes(b"png")
    command = ["connect", "--label-studio", studio.url, "--api-key", TOKEN, "--create", "Dogs"]
    command += ["--labels", "dog", "--images", *map(str, images)]
    assert cli.main(command) == 1
    told = capsys.readouterr().err
    assert "Of 3 images these were not added: two.heic (" in told
    assert ".heic extension is not supported" in told
    assert studio.uploads == ["one.png", "three.png"]
    assert cli.main(command) == 0


def test_an_upload_that_breaks_off_tells_how_far_it_came(
    studio: FakeLabelStudio, client: LabelStudio, tmp_path: Path
) -> None:
    images = [tmp_path / f"{number}.png" for number in range(3)]
    for image in images:
        image.write_bytes(b"png")
    number, studio.most_uploads = studio.add_project(), 2
    with pytest.raises(LabelStudioError, match=r"those before 2\.png were added: .*moved"):
        upload(client, number, images)


def test_no_image_is_added_if_label_studio_does_not_take_the_first(
    studio: FakeLabelStudio, client: LabelStudio, tmp_path: Path
) -> None:
    images = [tmp_path / name for name in ("one.heic", "two.png")]
    for image in images:
        image.write_bytes(b"png")
    number = studio.add_project()
    with pytest.raises(LabelStudioError, match=r"No image was added. one\.heic: .*not sup"):
        upload(client, number, images)
    assert not studio.uploads


def test_the_command_says_what_it_lacks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["connect", "--api-key", TOKEN, "--project", "1"]) == CONFIG_FAULT
    assert "LABEL_STUDIO_URL" in capsys.readouterr().err
