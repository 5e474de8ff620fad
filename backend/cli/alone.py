"""Commands without servers, and the demo."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from backend.cli.options import checkpoint_option, settings_of, threshold_option, whole
from backend.labelstudio.config import Kind


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`predict`, `demo` and `evaluate`."""
    predict = commands.add_parser("predict", help="masks for images, without servers")
    predict.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="files to look at; they come first"
    )
    predict.add_argument(
        "--prompt", nargs="+", action="extend", default=[], metavar="TEXT", help="what to find"
    )
    predict.add_argument(
        "--exemplar",
        nargs="+",
        action="extend",
        default=[],
        metavar="IMAGE[:MASK]",
        help="an image of what to find, with a mask of where it is there",
    )
    predict.add_argument(
        "--form",
        nargs="+",
        action="extend",
        choices=[kind.value for kind in Kind],
        metavar="FORM",
        help=f"of regions in predictions.json: {', '.join(Kind)} (brush)",
    )
    threshold_option(predict)
    predict.add_argument(
        "--out", type=Path, default=Path("out/predict"), help="folder for all of it (out/predict)"
    )
    checkpoint_option(predict)
    # by itself argparse tells images last, where --prompt would take them for texts
    predict.usage = (
        "%(prog)s IMAGE [IMAGE ...] --prompt TEXT [TEXT ...]\n"
        "           [--exemplar IMAGE[:MASK] [IMAGE[:MASK] ...]] [--form FORM [FORM ...]]\n"
        "           [--threshold P] [--out OUT] [--checkpoint ID_OR_FOLDER] [-h]"
    )
    predict.set_defaults(run=_predict)

    demo = commands.add_parser("demo", help="the demo images through the whole road")
    demo.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder for all of it (out/demo)"
    )
    demo.set_defaults(run=_demo)

    evaluate = commands.add_parser("evaluate", help="score a checkpoint on generated scenes")
    evaluate.add_argument("--scenes", type=whole(1), default=200, help="how many (200)")
    evaluate.add_argument(
        "--seed", type=whole(0), default=1_000_000, help="of the scenes (1000000)"
    )
    threshold_option(evaluate)
    checkpoint_option(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _predict(options: argparse.Namespace) -> int:
    settings = settings_of(
        PROMPTBRUSH_CHECKPOINT=options.checkpoint, MODEL_SCORE_THRESHOLD=options.threshold
    )
    from backend.local import ExemplarFiles, predict

    exemplars = [ExemplarFiles.from_text(text) for text in options.exemplar]
    forms = [Kind(form) for form in options.form or [Kind.BRUSH]]
    done = predict(settings, options.images, options.prompt, exemplars, options.out, forms)
    print(done.table)
    print(f"\nMasks, overlays and predictions.json are in {options.out}")
    if done.failed:
        names = ", ".join(map(str, done.failed))
        told = f"{len(done.failed)} of {len(options.images)} images could not be worked on: {names}"
        print(f"promptbrush: {told}", file=sys.stderr)
    return 1 if done.failed else 0


def _demo(options: argparse.Namespace) -> int:
    from backend.showcase import demo

    print("Starting broker, worker and web ...", flush=True)
    print("\n" + demo(options.out))
    print(f"\nOverlays, contact-sheet.png and predictions.json are in {options.out}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    settings = settings_of(
        PROMPTBRUSH_CHECKPOINT=options.checkpoint, MODEL_SCORE_THRESHOLD=options.threshold
    )
    from backend.worker.runtime import load
    from demo import evaluate

    segmenter, _ = load(settings.checkpoint, settings.device, settings.dtype)
    rows = evaluate.evaluate(segmenter, options.scenes, options.seed, settings.threshold)
    print(evaluate.table(rows))
    return 0
