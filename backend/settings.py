"""Settings, read from the environment in this one place.

Names follow the conventions of Label Studio backends; README.md lists them all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from backend.errors import BadSetting

T = TypeVar("T")

DEMO = "demo"
DEMO_GROUPVIT = "demo-groupvit"
DEMOS = (DEMO, DEMO_GROUPVIT)  # the checkpoints that come with the package
PUBLISHED = "CIDAS/clipseg-rd64-refined"
DTYPES = ("float32", "bfloat16", "float16")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
HERE = "localhost,127.0.0.1,::1"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set; `from_environment` explains what cannot be used."""

    label_studio_url: str | None = None
    label_studio_api_key: str | None = field(default=None, repr=False)
    basic_auth_user: str | None = None
    basic_auth_pass: str | None = field(default=None, repr=False)
    data_dir: Path = Path("data")
    model_dir: Path = Path("data/models")
    host: str = "127.0.0.1"
    port: int = 9090
    service_url: str = "http://127.0.0.1:9090"
    workers: int = 1
    threads: int = 32
    request_max_mb: int = 1024
    log_level: str = "INFO"
    device: str | None = None
    dtype: str = "float32"
    redis_url: str | None = field(default=None, repr=False)  # may hold a password
    broker: Path | None = None
    checkpoint: str = DEMO
    vocabulary: Path | None = None
    threshold: float = 0.4
    predict_deadline: float = 90.0
    job_timeout: float = 120.0
    batch_size: int = 4
    local_files_root: Path | None = None
    ca_bundle: Path | None = None
    image_hosts: frozenset[str] = frozenset()
    image_cache_mb: int = 1024
    annotation_cache_mb: int = 2048
    image_max_mb: int = 64
    image_max_megapixels: int = 120
    image_timeout: float = 20.0
    feature_cache_mb: int = 256
    feature_cache_disk_mb: int = 1024
    versions_in_memory: int = 16
    prompts_after: int = 1
    train_after: int = 20
    train_quiet: float = 60.0
    train_steps: int = 400
    train_memory_mb: int = 512

    @property
    def pushes(self) -> bool:
        """Whether predictions can be sent to Label Studio."""
        return self.label_studio_url is not None and self.label_studio_api_key is not None

    @property
    def broker_url(self) -> str:
        """Where a process that has not been given a broker looks for one."""
        return self.redis_url or "redis://localhost:6379/0"

    @property
    def listens_at(self) -> str:
        """Address and port to listen on, as one: an IPv6 address is in brackets there."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def local_url(self) -> str:
        """Where this machine reaches what listens."""
        here = self.host in {"127.0.0.1", "0.0.0.0", "::"}
        return f"http://localhost:{self.port}" if here else f"http://{self.listens_at}"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read every setting; BadSetting names the variable, its value and what is expected."""
        env = os.environ if environ is None else environ
        default = cls()
        data_dir = _read(env, ("PROMPTBRUSH_DATA_DIR",), _folder, None) or _default_data_dir(env)
        settings = cls(
            label_studio_url=_read(env, ("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST"), url, None),
            label_studio_api_key=_read(
                env, ("LABEL_STUDIO_API_KEY", "LABEL_STUDIO_ACCESS_TOKEN"), _token, None
            ),
            basic_auth_user=_read(env, ("BASIC_AUTH_USER", "ML_SERVER_BASIC_AUTH_USER"), str, None),
            basic_auth_pass=_read(env, ("BASIC_AUTH_PASS", "ML_SERVER_BASIC_AUTH_PASS"), str, None),
            data_dir=data_dir,
            model_dir=_read(env, ("MODEL_DIR",), _folder, data_dir / "models"),
            host=_read(env, ("HOST",), str, default.host),
            port=_read(env, ("PORT",), _whole(1, 65535), default.port),
            service_url=_read(env, ("PROMPTBRUSH_URL",), url, default.service_url),
            workers=_read(env, ("WORKERS",), _whole(1, 64), default.workers),
            threads=_read(env, ("THREADS",), _whole(5, 1024), default.threads),
            request_max_mb=_read(
                env, ("REQUEST_MAX_MB",), _whole(1, 10**5), default.request_max_mb
            ),
            log_level=_read(env, ("LOG_LEVEL",), _log_level, default.log_level),
            device=_read(env, ("DEVICE",), _device, None),
            dtype=_read(env, ("PROMPTBRUSH_DTYPE",), _dtype, default.dtype),
            redis_url=_read(env, ("REDIS_URL",), _redis_url, None),
            broker=_read(env, ("PROMPTBRUSH_BROKER",), _path, None),
            checkpoint=_read(env, ("PROMPTBRUSH_CHECKPOINT",), str, default.checkpoint),
            vocabulary=_read(env, ("PROMPTBRUSH_VOCABULARY",), _file, None),
            threshold=_read(env, ("MODEL_SCORE_THRESHOLD",), probability, default.threshold),
            predict_deadline=_read(env, ("PREDICT_DEADLINE",), _seconds, default.predict_deadline),
            job_timeout=_read(env, ("JOB_TIMEOUT",), _seconds, default.job_timeout),
            batch_size=_read(env, ("BATCH_SIZE",), _whole(1, 256), default.batch_size),
            local_files_root=_read(
                env,
                ("LOCAL_FILES_DOCUMENT_ROOT", "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"),
                _existing_folder,
                None,
            ),
            ca_bundle=_read(env, ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), _existing, None),
            image_hosts=_read(env, ("IMAGE_HOSTS",), _hosts, frozenset()),
            image_cache_mb=_read(
                env, ("IMAGE_CACHE_MB",), _whole(1, 10**7), default.image_cache_mb
            ),
            annotation_cache_mb=_read(
                env, ("ANNOTATION_CACHE_MB",), _whole(0, 10**7), default.annotation_cache_mb
            ),
            image_max_mb=_read(env, ("IMAGE_MAX_MB",), _whole(1, 10**5), default.image_max_mb),
            image_max_megapixels=_read(
                env, ("IMAGE_MAX_MEGAPIXELS",), _whole(1, 10**4), default.image_max_megapixels
            ),
            image_timeout=_read(env, ("IMAGE_TIMEOUT",), _seconds, default.image_timeout),
            feature_cache_mb=_read(
                env, ("FEATURE_CACHE_MB",), _whole(0, 10**6), default.feature_cache_mb
            ),
            feature_cache_disk_mb=_read(
                env, ("FEATURE_CACHE_DISK_MB",), _whole(0, 10**7), default.feature_cache_disk_mb
            ),
            versions_in_memory=_read(
                env, ("VERSIONS_IN_MEMORY",), _whole(1, 10**4), default.versions_in_memory
            ),
            prompts_after=_read(env, ("PROMPTS_AFTER",), _whole(0, 10**6), default.prompts_after),
            train_after=_read(env, ("TRAIN_AFTER",), _whole(0, 10**6), default.train_after),
            train_quiet=_read(env, ("TRAIN_QUIET",), _seconds, default.train_quiet),
            train_steps=_read(env, ("TRAIN_STEPS",), _whole(1, 10**6), default.train_steps),
            train_memory_mb=_read(
                env, ("TRAIN_MEMORY_MB",), _whole(0, 10**6), default.train_memory_mb
            ),
        )
        if (settings.basic_auth_user is None) != (settings.basic_auth_pass is None):
            raise BadSetting(
                "BASIC_AUTH_USER and BASIC_AUTH_PASS must be set together: one of them is missing."
            )
        return settings


def calm_threads() -> None:
    """Let idle compute threads sleep soon; to be called before torch is imported.

    OpenMP's threads spin while they wait for each other. On a machine whose cores are shared with
    anything else that makes every small step tens of times slower; not to spin at all makes small
    models a third slower. So they spin for some microseconds.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def reach_itself() -> None:
    """Let no proxy stand between this machine and itself; those for other hosts stay.

    Where a package index is behind a proxy, HTTP_PROXY is set, often without any exception, and
    requests would ask that proxy for the processes that were just started.
    """
    spared = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if spared != "*" and not spared.endswith(HERE):  # the one says all, but only alone
        os.environ["no_proxy"] = ",".join(filter(None, [spared, HERE]))


def environment(overrides: Mapping[str, object]) -> dict[str, str]:
    """The process's environment with some variables replaced; those that are None stay."""
    chosen = {name: str(value) for name, value in overrides.items() if value is not None}
    return {**os.environ, **chosen}


def _read(
    env: Mapping[str, str], names: tuple[str, ...], parse: Callable[[str], T], default: Any
) -> Any:
    """The first of `names` that is set and not blank, parsed."""
    for name in names:
        raw = env.get(name, "").strip()
        if raw:
            try:
                if raw[0] in "\"'" and raw[0] == raw[-1] and "PASS" not in name:
                    raise ValueError("leave off the quotes, which no shell has taken off")
                return parse(raw)
            except (ValueError, OSError) as error:  # a path too long, or in a folder of others
                reason = getattr(error, "strerror", None) or error
                secret = any(part in name for part in ("PASS", "KEY", "TOKEN"))
                # what is before an @ may be a password
                open_part = re.sub(r".*@", "...@", raw, flags=re.DOTALL)
                shown = "" if secret else f"={open_part!r}"
                raise BadSetting(f"{name}{shown} cannot be used: {reason}.") from None
    return default


def _default_data_dir(env: Mapping[str, str]) -> Path:
    try:
        return _path(env.get("XDG_DATA_HOME") or "~/.local/share") / "promptbrush"
    except ValueError:
        raise BadSetting(
            "There is no home folder to keep data in: set PROMPTBRUSH_DATA_DIR."
        ) from None


def _path(raw: str) -> Path:
    try:
        return Path(raw).expanduser().absolute()
    except RuntimeError:
        raise ValueError("there is no such home folder") from None


def _folder(raw: str) -> Path:
    path = _path(raw)
    if path.exists() and not path.is_dir():
        raise ValueError("it is a file where a folder is expected")
    return path


def _existing_folder(raw: str) -> Path:
    path = _folder(raw)
    if not path.is_dir():
        raise ValueError("there is no such folder")
    return path


def _existing(raw: str) -> Path:
    path = _path(raw)
    if not path.exists():
        raise ValueError("there is no such file or folder")
    return path


def _file(raw: str) -> Path:
    path = _path(raw)
    if not path.is_file():
        raise ValueError("there is no such file")
    return path


def url(raw: str) -> str:
    """An http(s) address without a password, and without a slash at its end.

    Raises:
        ValueError: it is none.
    """
    with suppress(ValueError):  # of a bracket that is not closed, or a port beyond all
        parts = urlsplit(raw)
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        if known and "@" not in parts.netloc and not re.search(r"\s", raw):
            return raw.rstrip("/")
    raise ValueError("expected an address such as http://localhost:8080, without a password")


def _token(raw: str) -> str:
    if not re.fullmatch("[!-~]+", raw):  # what a header can carry
        raise ValueError("a token has no gaps and none but ASCII signs: copy it whole")
    return raw


def _redis_url(raw: str) -> str:
    if not re.match(r"(rediss?|valkeys?|unix)://", raw):
        raise ValueError("expected an address such as redis://localhost:6379/0")
    return re.sub(r"^valkey", "redis", raw)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", raw) or not low <= int(raw) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(raw)

    return parse


def _number(raw: str) -> float:
    try:
        return float(raw)
    except ValueError:
        raise ValueError("expected a number") from None


def _seconds(raw: str) -> float:
    value = _number(raw)
    if not 0 < value < 10**6:
        raise ValueError("expected a number of seconds above 0")
    return value


def probability(raw: str) -> float:
    """A number between 0 and 1.

    Raises:
        ValueError: it is none.
    """
    value = _number(raw)
    if not 0 < value < 1:
        raise ValueError("expected a number between 0 and 1")
    return value


def _log_level(raw: str) -> str:
    if raw.upper() not in LOG_LEVELS:
        raise ValueError(f"expected one of {', '.join(LOG_LEVELS)}")
    return raw.upper()


def _device(raw: str) -> str | None:
    if raw.lower() == "auto":
        return None
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", raw.lower()):
        raise ValueError("expected auto, cpu, mps, cuda or cuda:N")
    return raw.lower()


def _dtype(raw: str) -> str:
    if raw.lower() not in DTYPES:
        raise ValueError(f"expected one of {', '.join(DTYPES)}")
    return raw.lower()


def _hosts(raw: str) -> frozenset[str]:
    hosts = frozenset(part.strip().lower() for part in raw.split(",") if part.strip())
    # others would be asked for by no image, and keep all images out
    if not all(re.fullmatch(r"\*|(\*\.)?[^\s/*]+", host) for host in hosts):
        raise ValueError("expected hosts such as cdn.example.com, *.example.com, or * for all")
    return hosts
