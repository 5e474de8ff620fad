"""The `promptbrush` command."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from backend import __version__
from backend.connect import LABEL_STUDIO_NEEDS, SAMPLING
from backend.errors import (
    CONFIG_FAULT,
    BackendError,
    BadSetting,
    BrokerUnavailable,
    CheckpointUnavailable,
)
from backend.labelstudio.config import Kind
from backend.settings import DEMO, PUBLISHED, Settings, calm_threads, environment


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; errors are told in one line, and the exit status says so."""
    options = _parser().parse_args(argv)
    calm_threads()
    try:
        return options.run(options) or 0
    except (BadSetting, CheckpointUnavailable, BrokerUnavailable) as error:
        print(f"promptbrush: {error}", file=sys.stderr)
        return CONFIG_FAULT
    except (BackendError, OSError) as error:
        print(f"promptbrush: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="promptbrush",
        description="Label Studio ML backend: brush masks from text prompts and exemplar images. "
        "Settings come from the environment; options win over them.",
    )
    parser.add_argument("--version", action="version", version=f"promptbrush {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="serve: broker, workers and web on this machine")
    up.add_argument("--host", help="address to listen on (127.0.0.1)")
    up.add_argument("--port", type=int, help="port to listen on (9090)")
    up.add_argument("--data-dir", type=Path, help="where everything is kept")
    up.add_argument("--workers", type=int, help="prediction workers (1)")
    up.add_argument("--quiet", action="store_true", help="say nothing when ready")
    _checkpoint(up)
    up.set_defaults(run=_up)

    web = commands.add_parser("web", help="the web process alone; needs REDIS_URL")
    web.set_defaults(run=_web)

    worker = commands.add_parser("worker", help="one prediction worker alone; needs REDIS_URL")
    worker.add_argument("--name", help="its name in the queue")
    _checkpoint(worker)
    worker.set_defaults(run=_worker)

    connect = commands.add_parser("connect", help="make a Label Studio project use this backend")
    _label_studio(connect)
    project = connect.add_mutually_exclusive_group(required=True)
    project.add_argument("--project", type=int, metavar="ID", help="a project that is there")
    project.add_argument("--create", metavar="TITLE", help="one that is made unless it is there")
    connect.add_argument(
        "--labels", nargs="+", metavar="LABEL", help="of a project that is made (the demo's)"
    )
    connect.add_argument(
        "--images", nargs="+", default=[], type=Path, metavar="IMAGE", help="if it has no task yet"
    )
    connect.add_argument("--sampling", choices=sorted(SAMPLING), help="which task is served next")
    connect.set_defaults(run=_connect)

    doctor = commands.add_parser("doctor", help="look for what keeps masks from the editor")
    _label_studio(doctor)
    doctor.add_argument("--project", type=int, metavar="ID", help="look at its connection too")
    doctor.set_defaults(run=_doctor)

    prelabel = commands.add_parser("prelabel", help="predictions for a whole project")
    _label_studio(prelabel)
    prelabel.add_argument("--project", type=int, required=True, metavar="ID")
    prelabel.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="watch until it is done; the work goes on without, too",
    )
    prelabel.set_defaults(run=_prelabel)

    pusher = commands.add_parser(
        "pusher", help="the process that sends late predictions to Label Studio; needs REDIS_URL"
    )
    pusher.set_defaults(run=_pusher)

    predict = commands.add_parser("predict", help="masks for images, without servers")
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    predict.add_argument(
        "--prompt", nargs="+", action="extend", default=[], metavar="TEXT", help="what to find"
    )
    predict.add_argument(
        "--exemplar",
        nargs="+",
        action="extend",
        default=[],
        metavar="IMAGE[:MASK]",
        help="an image of what to find, with a mask of it",
    )
    predict.add_argument(
        "--form",
        nargs="+",
        type=Kind,
        choices=list(Kind),
        default=[Kind.BRUSH],
        metavar="FORM",
        help=f"of regions in predictions.json: {', '.join(Kind)} (brush)",
    )
    predict.add_argument("--threshold", type=float, help="probability from which a pixel counts")
    predict.add_argument("--out", type=Path, default=Path("out/predict"), help="(out/predict)")
    _checkpoint(predict)
    predict.set_defaults(run=_predict)

    demo = commands.add_parser("demo", help="the demo images through the whole road")
    demo.add_argument("--out", type=Path, default=Path("out/demo"), help="(out/demo)")
    demo.set_defaults(run=_demo)

    evaluate = commands.add_parser("evaluate", help="score a checkpoint on generated scenes")
    evaluate.add_argument("--scenes", type=int, default=200, help="(200)")
    evaluate.add_argument("--seed", type=int, default=1_000_000, help="of the scenes (1000000)")
    evaluate.add_argument("--threshold", type=float, help="probability from which a pixel counts")
    _checkpoint(evaluate)
    evaluate.set_defaults(run=_evaluate)
    return parser


def _checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", metavar="ID_OR_FOLDER", help=f"({DEMO}, or {PUBLISHED})")


def _label_studio(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--label-studio", metavar="URL", help="(LABEL_STUDIO_URL)")
    parser.add_argument("--api-key", metavar="KEY", help="(LABEL_STUDIO_API_KEY)")
    parser.add_argument(
        "--backend", metavar="URL", help="this backend as Label Studio reaches it (HOST and PORT)"
    )


def _settings(**overrides: object) -> Settings:
    settings = Settings.from_environment(environment(overrides))
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    return settings


def _up(options: argparse.Namespace) -> int:
    from backend.launcher import Launcher

    overrides = {
        "HOST": options.host,
        "PORT": options.port,
        "PROMPTBRUSH_DATA_DIR": options.data_dir,
        "PROMPTBRUSH_CHECKPOINT": options.checkpoint,
        "WORKERS": options.workers,
    }
    settings = _settings(**overrides)
    if not options.quiet:
        print(f"promptbrush {__version__}: starting; loading {settings.checkpoint} ...", flush=True)
    tell = (lambda: None) if options.quiet else _ready_message(settings)
    return Launcher(settings, environment(overrides)).run(tell, _probe(settings))


def _probe(settings: Settings) -> Callable[[], bool]:
    import requests

    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host

    def ready() -> bool:
        with contextlib.suppress(requests.RequestException, ValueError):
            health = requests.get(f"http://{host}:{settings.port}/health", timeout=1).json()
            return bool(health.get("ready"))
        return False

    return ready


def _ready_message(settings: Settings) -> Callable[[], None]:
    host = "localhost" if settings.host in {"127.0.0.1", "0.0.0.0", "::"} else settings.host
    lines = [
        "",
        f"Ready. In Label Studio: Settings > Model > Connect Model, URL http://{host}:{settings.port}",
        "with 'Interactive preannotations' on. If it refuses the address, start Label Studio with",
        *(f"    {setting}" for setting in LABEL_STUDIO_NEEDS),
    ]
    if settings.label_studio_url is None or settings.label_studio_api_key is None:
        lines += [
            "To fetch images that were uploaded to Label Studio, promptbrush needs",
            "    LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY (Account & Settings > Access Token).",
        ]
    if settings.basic_auth_user is not None:
        lines.append("Basic authentication is on: give Label Studio the same user and password.")
    if settings.checkpoint == DEMO:
        lines += [
            "",
            "This is the DEMO checkpoint: it knows drawn shapes, not photographs. For those:",
            f"    PROMPTBRUSH_CHECKPOINT={PUBLISHED}",
        ]
    lines += ["", "Ctrl-C stops it."]
    return lambda: print("\n".join(lines), flush=True)


def _web(_: argparse.Namespace) -> int:
    from backend.web.server import Server

    Server(_settings()).run()
    return 0


def _worker(options: argparse.Namespace) -> int:
    settings = _settings(PROMPTBRUSH_CHECKPOINT=options.checkpoint)
    from backend.worker.runtime import run

    run(settings, options.name)
    return 0


def _connect(options: argparse.Namespace) -> int:
    from backend import connect
    from backend.labelstudio.starter import label_config
    from demo import LABEL_CONFIG

    settings = _settings(
        LABEL_STUDIO_URL=options.label_studio, LABEL_STUDIO_API_KEY=options.api_key
    )
    studio = connect.label_studio(settings)
    project = options.project
    if options.create is not None:
        labels = options.labels
        xml = label_config(labels) if labels else LABEL_CONFIG.read_text(encoding="utf-8")
        project, told = connect.find_or_create(studio, options.create, xml)
        print(told)
    if options.images:
        print(connect.upload(studio, project, options.images))
    address = connect.address(settings, options.backend)
    print("\n".join(connect.connect(studio, project, address, options.sampling)))
    print(f"\nOpen {studio.url}/projects/{project}/data")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from backend import connect
    from backend.doctor import Doctor
    from backend.findings import Grade
    from backend.labelstudio.images import ImageStore

    settings = _settings(
        LABEL_STUDIO_URL=options.label_studio, LABEL_STUDIO_API_KEY=options.api_key
    )
    address = connect.address(settings, options.backend)
    broken = False
    for finding in Doctor(settings, address, ImageStore.of(settings)).examine(options.project):
        print(finding, flush=True)
        broken = broken or finding.grade is Grade.PROBLEM
    return 1 if broken else 0


def _prelabel(options: argparse.Namespace) -> int:
    from backend import connect
    from backend.prelabel import Backend, prelabel

    settings = _settings(
        LABEL_STUDIO_URL=options.label_studio, LABEL_STUDIO_API_KEY=options.api_key
    )
    backend = Backend(connect.address(settings, options.backend))
    studio = connect.label_studio(settings)
    try:
        report = prelabel(studio, backend, options.project, wait=options.wait)
    except KeyboardInterrupt:
        print("\nWhat was handed over goes on without this command; run it again to watch.")
        raise
    print(report)
    return 1 if report.failures else 0


def _pusher(_: argparse.Namespace) -> int:
    from backend.labelstudio.client import LabelStudio
    from backend.pusher import Pusher
    from backend.queue import connect

    settings = _settings()
    if settings.label_studio_url is None or settings.label_studio_api_key is None:
        print("Nothing to push to: LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY are not both set.")
        return 0
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    studio = LabelStudio(settings.label_studio_url, settings.label_studio_api_key)
    connection = connect(settings.redis_url or "redis://localhost:6379/0")
    Pusher(connection, studio, stopped.is_set).run()
    return 0


def _predict(options: argparse.Namespace) -> int:
    settings = _settings(
        PROMPTBRUSH_CHECKPOINT=options.checkpoint, MODEL_SCORE_THRESHOLD=options.threshold
    )
    from backend.local import ExemplarFiles, predict

    exemplars = [ExemplarFiles.from_text(text) for text in options.exemplar]
    told = predict(settings, options.images, options.prompt, exemplars, options.out, options.form)
    print(told)
    print(f"\nMasks, overlays and predictions.json are in {options.out}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from backend.showcase import demo

    print("Starting broker, worker and web ...", flush=True)
    print("\n" + demo(options.out))
    print(f"\nOverlays, contact-sheet.png and predictions.json are in {options.out}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    settings = _settings(
        PROMPTBRUSH_CHECKPOINT=options.checkpoint, MODEL_SCORE_THRESHOLD=options.threshold
    )
    from backend.worker.runtime import load
    from demo import evaluate

    segmenter, _ = load(settings.checkpoint, settings.device)
    rows = evaluate.evaluate(segmenter, options.scenes, options.seed, settings.threshold)
    print(evaluate.table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
