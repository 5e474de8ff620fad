"""Compose and Dockerfile hang together; no Docker engine is needed to see that."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend import settings

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_every_dependency_is_waited_for_by_its_health(compose: Any) -> None:
    services = compose["services"]
    for service in services.values():
        for name, wish in service.get("depends_on", {}).items():
            assert wish == {"condition": "service_healthy"}
            assert "healthcheck" in services[name] or "build" in services[name]


def test_every_variable_that_is_passed_is_a_setting(compose: Any) -> None:
    source = Path(settings.__file__).read_text()
    for name in ("web", "worker", "pusher", "trainer"):
        passed = set(compose["services"][name]["environment"])
        assert all(f'"{variable}"' in source for variable in passed)


# what the image fixes, what is of `up` alone, and what names a place that has to be mounted
NOT_PASSED = {
    *("HOST", "PORT", "PROMPTBRUSH_URL", "PROMPTBRUSH_DATA_DIR", "MODEL_DIR"),
    *("WORKERS", "PROMPTBRUSH_BROKER"),
    *("LOCAL_FILES_DOCUMENT_ROOT", "PROMPTBRUSH_VOCABULARY", "REQUESTS_CA_BUNDLE"),
}


def test_every_other_setting_in_the_readme_is_passed(compose: Any) -> None:
    table = re.findall(r"^\| (`[A-Z`, _]+`) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    listed = {name for names in table for name in re.findall("[A-Z_]+", names)}
    assert len(listed) > 30
    for service in ("web", "worker", "pusher", "trainer"):
        assert listed - NOT_PASSED <= set(compose["services"][service]["environment"])


def test_a_gpu_is_for_both_that_compute_as_it_is_written() -> None:
    written = re.sub(r"# (?=deploy|  )", "", (ROOT / "docker-compose.yml").read_text())
    services = yaml.safe_load(written)["services"]
    assert {name for name, service in services.items() if "deploy" in service} == {
        "worker",
        "trainer",
    }
    (device,) = services["trainer"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_every_process_of_ours_can_be_stopped_at_any_time(compose: Any) -> None:
    built = [service for service in compose["services"].values() if "build" in service]
    assert len(built) == 4
    assert all(service["init"] for service in built)


def test_every_volume_that_is_used_is_declared(compose: Any) -> None:
    used = {
        volume.partition(":")[0]
        for service in compose["services"].values()
        for volume in service["volumes"]
    }
    assert used == set(compose["volumes"])


def test_compose_starts_with_the_published_checkpoint(compose: Any) -> None:
    environment = compose["services"]["worker"]["environment"]
    assert settings.PUBLISHED in environment["PROMPTBRUSH_CHECKPOINT"]


def test_label_studio_comes_in_a_profile_with_the_settings_it_needs(compose: Any) -> None:
    service = compose["services"]["label-studio"]
    assert service["profiles"] == ["label-studio"]
    environment = service["environment"]
    assert environment["LABEL_STUDIO_ML_BLOCK_LOCAL_IP"] == "false"
    assert environment["LABEL_STUDIO_SSRF_PROTECTION_ENABLED"] == "false"


def test_the_image_holds_what_the_package_needs_and_is_not_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = {
        name for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for name in line.split()
    }
    assert {"backend", "demo", "models", "setup.cfg", "pyproject.toml", "README.md"} <= copied
    assert text.index("USER promptbrush") < text.index("ENTRYPOINT")
    assert "HEALTHCHECK" in text
