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
