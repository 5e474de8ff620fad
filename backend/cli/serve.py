"""Commands that serve: everything on this machine, or one process of it."""

from __future__ import annotations

import argparse
import contextlib
import signal
import threading
from collections.abc import Callable

from backend import __version__
from backend.cli.options import checkpoint_option, settings_of
from backend.connect import LABEL_STUDIO_NEEDS
from backend.settings import DEMOS, PUBLISHED, Settings, environment


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`up`, `web`, `worker`, `pusher` and `trainer`."""
    up = commands.add_parser("up", help="serve: broker, workers, trainer, pusher and web here")
    up.add_argument("--host", help="address to listen on (127.0.0.1)")
    up.add_argument("--port", type=int, help="port to listen on (9090)")
    # as text: a blank one, as of a shell's variable that is not set, is none, and not where we are
    up.add_argument("--data-dir", help="where everything is kept (PROMPTBRUSH_DATA_DIR)")
    up.add_argument("--workers", type=int, help="prediction workers (1)")
    up.add_argument("--quiet", action="store_true", help="say nothing when ready")
    checkpoint_option(up)
    up.set_defaults(run=_up)

    web = commands.add_parser("web", help="the web process alone; needs a broker (REDIS_URL)")
    web.set_defaults(run=_web)

    worker = commands.add_parser(
        "worker", help="one prediction worker alone; needs a broker (REDIS_URL)"
    )
    worker.add_argument("--name", help="what its name in the queue begins with (worker)")
    checkpoint_option(worker)
    worker.set_defaults(run=_worker)

    pusher = commands.add_parser(
        "pusher",
        help="the process that sends late predictions to Label Studio; needs a broker (REDIS_URL)",
    )
    pusher.set_defaults(run=_pusher)

    trainer = commands.add_parser(
        "trainer",
        help="the process that trains projects on accepted work; needs a broker (REDIS_URL)",
    )
    trainer.add_argument("--name", help="its name in the training lane")
    checkpoint_option(trainer)
    trainer.set_defaults(run=_trainer)


def _up(options: argparse.Namespace) -> int:
    from backend.launcher import Launcher

    overrides = {
        "HOST": options.host,
        "PORT": options.port,
        "PROMPTBRUSH_DATA_DIR": options.data_dir,
        "PROMPTBRUSH_CHECKPOINT": options.checkpoint,
        "WORKERS": options.workers,
    }
    settings = settings_of(**overrides)
    if not options.quiet:
        print(f"promptbrush {__version__}: starting; loading {settings.checkpoint} ...", flush=True)
    tell = (lambda: None) if options.quiet else _ready_message(settings)
    return Launcher(settings, environment(overrides)).run(tell, _probe(settings))


def _probe(settings: Settings) -> Callable[[], bool]:
    import requests

    from backend.labelstudio.api import as_given

    url = f"{settings.local_url}/health"

    def ready() -> bool:
        with contextlib.suppress(requests.RequestException, ValueError):
            health = requests.get(url, auth=as_given, timeout=1).json()
            return bool(health.get("ready"))
        return False

    return ready


def _ready_message(settings: Settings) -> Callable[[], None]:
    lines = [
        "",
        f"Ready at {settings.local_url}. To use it in a Label Studio project:",
        "    promptbrush connect --project ID (or --create TITLE)",
        "Label Studio on private addresses, such as localhost, has to be started with",
        *(f"    {setting}" for setting in LABEL_STUDIO_NEEDS),
    ]
    if settings.label_studio_url is None or settings.label_studio_api_key is None:
        lines += [
            "To fetch images from Label Studio and push predictions to it, promptbrush needs",
            "    LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY (from Account & Settings there).",
        ]
    if settings.basic_auth_user is not None:
        lines.append("Basic authentication is on: run connect with the same user and password.")
    if settings.checkpoint in DEMOS:
        lines += [
            "",
            "This is the DEMO checkpoint: it knows drawn shapes, not photographs. For those:",
            f"    PROMPTBRUSH_CHECKPOINT={PUBLISHED}",
        ]
    lines += ["", "Ctrl-C stops it."]
    return lambda: print("\n".join(lines), flush=True)


def _web(_: argparse.Namespace) -> int:
    from backend.web.server import Server

    Server(settings_of()).run()
    return 0


def _worker(options: argparse.Namespace) -> int:
    settings = settings_of(PROMPTBRUSH_CHECKPOINT=options.checkpoint)
    from backend.worker.runtime import run

    run(settings, options.name)
    return 0


def _pusher(_: argparse.Namespace) -> int:
    from backend.labelstudio.client import LabelStudio
    from backend.pusher import Pusher
    from backend.queue import connect

    settings = settings_of()
    if settings.label_studio_url is None or settings.label_studio_api_key is None:
        print("Nothing to push to: LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY are not both set.")
        return 0
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    studio = LabelStudio(settings.label_studio_url, settings.label_studio_api_key)
    connection = connect(settings.broker_url)
    Pusher(connection, studio, stopped.is_set).run()
    return 0


def _trainer(options: argparse.Namespace) -> int:
    settings = settings_of(PROMPTBRUSH_CHECKPOINT=options.checkpoint)
    from backend.trainer import run

    run(settings, options.name)
    return 0
