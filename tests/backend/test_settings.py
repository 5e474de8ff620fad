import os
import re
from pathlib import Path

import pytest
from requests.utils import get_environ_proxies

from backend import settings as module
from backend.errors import BadSetting
from backend.settings import Settings, reach_itself

ROOT = Path(__file__).parents[2]


def test_nothing_set_gives_the_defaults() -> None:
    settings = Settings.from_environment({})
    assert (settings.port, settings.checkpoint, settings.workers) == (9090, "demo", 1)
    assert settings.model_dir == settings.data_dir / "models"


def test_blank_counts_as_not_set() -> None:
    assert Settings.from_environment({"PORT": " ", "REDIS_URL": ""}) == Settings.from_environment(
        {}
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "ninety"),
        ("PORT", "9090.5"),
        ("WORKERS", "0"),
        ("THREADS", "-4"),
        ("DEVICE", "tpu"),
        ("PROMPTBRUSH_DTYPE", "int8"),
        ("LOG_LEVEL", "LOUD"),
        ("REDIS_URL", "localhost:6379"),
        ("LABEL_STUDIO_URL", "localhost:8080"),
        ("MODEL_SCORE_THRESHOLD", "1.5"),
        ("MODEL_SCORE_THRESHOLD", "nan"),
        ("PREDICT_DEADLINE", "-1"),
        ("LOCAL_FILES_DOCUMENT_ROOT", "/no/such/folder"),
        ("LABEL_STUDIO_URL", "http://localhost:80800"),
        ("LABEL_STUDIO_URL", "http://[::1"),
        ("LABEL_STUDIO_URL", "http://:8080"),
        ("PROMPTBRUSH_URL", "http://local host"),
        ("PROMPTBRUSH_DATA_DIR", "~nobody-of-that-name/data"),
        ("MODEL_DIR", '"/data/models"'),
        ("PROMPTBRUSH_CHECKPOINT", "'demo'"),
        ("MODEL_DIR", "/" + "x" * 300),
        ("PROMPTBRUSH_VOCABULARY", "~nobody-of-that-name/words.txt"),
        ("PROMPTBRUSH_BROKER", "~nobody-of-that-name/valkey-server"),
        ("IMAGE_MAX_MB", "lots"),
        *(
            ("IMAGE_HOSTS", hosts)
            for hosts in (
                "https://cdn.example.com",
                "cdn.example.com/images",
                "a, cdn*.example.com",
            )
        ),
        ("TRAIN_AFTER", "-1"),
        ("TRAIN_QUIET", "0"),
        ("TRAIN_STEPS", "0"),
    ],
)
def test_a_bad_value_is_named_with_what_is_expected(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=re.escape(f"{name}={value!r}")):
        Settings.from_environment({name: value})


def test_quotes_that_no_shell_took_off_are_told_but_in_a_password() -> None:
    """As `docker run --env-file` leaves them."""
    with pytest.raises(BadSetting, match="LABEL_STUDIO_API_KEY cannot be used: leave off the quot"):
        Settings.from_environment({"LABEL_STUDIO_API_KEY": '"abc"'})
    told = {"BASIC_AUTH_USER": "me", "BASIC_AUTH_PASS": '"secret"'}
    assert Settings.from_environment(told).basic_auth_pass == '"secret"'


def test_who_has_no_home_says_where_data_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as in a container whose user no file knows
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    told = {"PROMPTBRUSH_DATA_DIR": str(tmp_path)}
    assert Settings.from_environment(told).model_dir == tmp_path / "models"
    with pytest.raises(BadSetting, match="set PROMPTBRUSH_DATA_DIR"):
        Settings.from_environment({})


def test_hosts_of_images_may_have_a_port_or_stand_for_many() -> None:
    told = "CDN.example.com, *.example.org,10.0.0.1:8080,  ::1,*"
    hosts = {"cdn.example.com", "*.example.org", "10.0.0.1:8080", "::1", "*"}
    assert Settings.from_environment({"IMAGE_HOSTS": told}).image_hosts == hosts


def test_other_backends_names_are_understood() -> None:
    settings = Settings.from_environment(
        {
            "LABEL_STUDIO_HOST": "http://ls:8080/",
            "LABEL_STUDIO_ACCESS_TOKEN": "abc",
            "ML_SERVER_BASIC_AUTH_USER": "u",
            "ML_SERVER_BASIC_AUTH_PASS": "p",
        }
    )
    assert settings.label_studio_url == "http://ls:8080"
    assert settings.label_studio_api_key == "abc"
    assert (settings.basic_auth_user, settings.basic_auth_pass) == ("u", "p")


def test_half_of_the_credentials_is_refused() -> None:
    with pytest.raises(BadSetting, match="together"):
        Settings.from_environment({"BASIC_AUTH_USER": "me"})


def test_secrets_are_never_shown() -> None:
    secrets = {
        "LABEL_STUDIO_API_KEY": "key-123",
        "BASIC_AUTH_USER": "me",
        "BASIC_AUTH_PASS": "pass-123",
        "REDIS_URL": "redis://:redis-123@host/0",
    }
    shown = repr(Settings.from_environment(secrets))
    assert not any(secret in shown for secret in ("key-123", "pass-123", "redis-123"))


@pytest.mark.parametrize("name", ["LABEL_STUDIO_API_KEY", "LABEL_STUDIO_ACCESS_TOKEN"])
@pytest.mark.parametrize("key", ["key-123…", "key-123\nmore", "key-123 more", "ключ"])
def test_a_token_that_no_request_can_carry_is_told_and_not_shown(name: str, key: str) -> None:
    with pytest.raises(BadSetting, match=f"{name} cannot be used: .*copy it whole") as told:
        Settings.from_environment({name: key})
    assert key[:4] not in str(told.value)


@pytest.mark.parametrize("name", ["REDIS_URL", "LABEL_STUDIO_URL", "PROMPTBRUSH_URL"])
@pytest.mark.parametrize("value", ["ftp://me:s3cr3t@host", "me:s3@cr3t@host", "x//:s3\ncr3t@host"])
def test_a_password_in_an_address_that_cannot_be_used_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match="@host") as caught:
        Settings.from_environment({name: value})
    assert "s3" not in str(caught.value)
    assert "cr3t" not in str(caught.value)


@pytest.mark.parametrize("name", ["LABEL_STUDIO_URL", "PROMPTBRUSH_URL"])
def test_a_password_that_would_go_unused_and_into_messages_is_refused(name: str) -> None:
    with pytest.raises(BadSetting, match="without a password") as caught:
        Settings.from_environment({name: "https://me:s3cr3t@host/ls"})
    assert "s3cr3t" not in str(caught.value)


def test_a_device_may_be_numbered() -> None:
    assert Settings.from_environment({"DEVICE": "CUDA:1"}).device == "cuda:1"
    assert Settings.from_environment({"DEVICE": "auto"}).device is None
    assert Settings.from_environment({"PROMPTBRUSH_DTYPE": "BFloat16"}).dtype == "bfloat16"


def test_the_readme_lists_exactly_the_settings_there_are() -> None:
    source = Path(module.__file__).read_text()
    read = {
        name
        for group in re.findall(r"_read\(\s*env,\s*\(([^)]*)\)", source)
        for name in re.findall(r'"([A-Z_]+)"', group)
    }
    rows = [
        line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")
    ]
    told = {name for row in rows for name in re.findall(r"`([A-Z][A-Z_]+)`", row)}
    levels = set(module.LOG_LEVELS)
    assert told - levels == read


@pytest.mark.parametrize(
    ("host", "listens_at", "local_url"),
    [
        ("127.0.0.1", "127.0.0.1:91", "http://localhost:91"),
        ("0.0.0.0", "0.0.0.0:91", "http://localhost:91"),
        ("192.0.2.7", "192.0.2.7:91", "http://192.0.2.7:91"),
        ("::", "[::]:91", "http://localhost:91"),
        ("::1", "[::1]:91", "http://[::1]:91"),
    ],
)
def test_what_listens_is_reached_by_both_kinds_of_addresses(
    host: str, listens_at: str, local_url: str
) -> None:
    settings = Settings.from_environment({"HOST": host, "PORT": "91"})
    assert (settings.listens_at, settings.local_url) == (listens_at, local_url)


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_stands_between_this_machine_and_itself(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(each, "")
    monkeypatch.setenv(name, "intranet")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    reach_itself()
    told = os.environ["no_proxy"]
    reach_itself()
    assert os.environ["no_proxy"] == told
    for host in ("localhost:9090", "127.0.0.1:9090", "[::1]:9090", "intranet"):
        assert get_environ_proxies(f"http://{host}/health") == {}
    assert get_environ_proxies("http://studio/api")["http"] == "http://proxy:3128"


def test_where_there_is_no_proxy_for_any_host_it_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    reach_itself()
    assert get_environ_proxies("http://studio/api") == {}
