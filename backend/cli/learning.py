"""Commands that use what annotators accepted."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.cli.accepted import accepted, folder_option, learner
from backend.cli.options import (
    backend_option,
    checkpoint_option,
    follow_if_known,
    label_studio_options,
    later,
    project_option,
    settings_of,
    studio_settings,
    whole,
)
from backend.errors import BackendError, BadRequest
from backend.inference.vocabulary import Vocabulary, vocabulary
from backend.settings import Settings

MEASURED = "Prompts were measured for it, and are asked from the next task on."


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`export`, `train` and `suggest`."""
    export = commands.add_parser("export", help="a project's accepted annotations as COCO and PNG")
    label_studio_options(export)
    project_option(export)
    export.add_argument(
        "--out", type=Path, default=Path("out/export"), help="folder for all of it (out/export)"
    )
    export.set_defaults(run=_export)

    train = commands.add_parser("train", help="make a better version from accepted annotations")
    label_studio_options(train)
    backend_option(train)
    project_option(train)
    folder_option(train)
    train.add_argument(
        "--steps", type=whole(1), metavar="N", help="of training at most (TRAIN_STEPS, 400)"
    )
    train.add_argument(
        "--seed", type=whole(0), default=0, metavar="N", help="of what is random (0)"
    )
    train.add_argument(
        "--stop", action="store_true", help="stop what the trainer does for the project"
    )
    train.set_defaults(run=_train)

    suggest = commands.add_parser("suggest", help="phrases that find what a label means, measured")
    label_studio_options(suggest)
    checkpoint_option(suggest)
    project_option(suggest, required=False)
    suggest.add_argument("--label", metavar="LABEL", help="find phrases for that alone (all)")
    folder_option(suggest)
    suggest.add_argument("--image", type=Path, help="say what is in that, of any project or none")
    suggest.add_argument(
        "--vocabulary", type=Path, metavar="FILE", help="words to try (PROMPTBRUSH_VOCABULARY)"
    )
    suggest.add_argument(
        "--most", type=whole(1), default=10, metavar="N", help="phrases to show of a label (10)"
    )
    suggest.set_defaults(run=_suggest)


def _export(options: argparse.Namespace) -> int:
    from backend.learning.commands import export
    from backend.learning.source import studio_of

    settings = studio_settings(options)
    try:
        print(export(settings, studio_of(settings), options.project, options.out))
    except KeyboardInterrupt:
        print(f"\nStopped: {options.out} is not whole. Run it again: what was fetched is kept.")
        raise
    print(f"\nIt is in {options.out}")
    return 0


def _train(options: argparse.Namespace) -> int:
    settings = studio_settings(options)
    if options.stop:
        return _stop(settings, options)
    from backend.inference.books import Books
    from backend.learning import commands
    from backend.learning.recipe import Recipe

    def measured() -> bool:
        return Books(settings.model_dir).book(options.project).number > before

    before = Books(settings.model_dir).book(options.project).number
    recipe = Recipe(steps=options.steps or settings.train_steps, seed=options.seed)
    learns = learner(settings, options)
    try:
        with commands.progress_bar() as bar:
            done = learns.learn(recipe, bar)
    except KeyboardInterrupt:
        print(
            "\nStopped. The same command goes on from the last look at the validation tasks, if it "
            "came to one, and else with the images that are encoded; nothing else is needed."
        )
        if measured():
            print(f"{MEASURED} {later(options.project)}")
        raise
    except (BackendError, OSError):
        if measured():
            print(f"{MEASURED} {follow_if_known(settings, options)}")
        raise
    print(commands.outcome(done))
    if done.verdict.promoted:
        print(follow_if_known(settings, options))
    elif measured():
        print(f"{MEASURED} {follow_if_known(settings, options)}")
    return 0


def _stop(settings: Settings, options: argparse.Namespace) -> int:
    from backend import connect
    from backend.service import Backend

    backend = Backend(connect.address(settings, options.backend), patience=5.0)
    if backend.stop_training(options.project):
        print(
            f"The training of project {options.project} is stopped. The images that it encoded are "
            "kept, and the next one on the same annotations goes on from its last look at the "
            "validation tasks, if it came to one; else it begins anew with these images."
        )
    else:
        print(f"No training of project {options.project} runs or waits.")
    return 0


def _suggest(options: argparse.Namespace) -> int:
    if options.vocabulary is not None:
        Vocabulary.read(options.vocabulary)  # what is wrong is told of the file, not of the setting
    settings = settings_of(
        LABEL_STUDIO_URL=options.label_studio,
        LABEL_STUDIO_API_KEY=options.api_key,
        PROMPTBRUSH_CHECKPOINT=options.checkpoint,
        PROMPTBRUSH_VOCABULARY=options.vocabulary,
    )
    words, project = vocabulary(settings), options.project
    if project is None and (options.image is None or options.label or options.folder):
        raise BadRequest("Give --project ID, or --image FILE alone to be told what is in it.")
    from backend.inference.predictor import Predictor
    from backend.learning import commands
    from backend.learning.registry import Registry
    from backend.worker.runtime import feature_cache, load
    from backend.worker.serving import Serving

    work = None if project is None else accepted(settings, options)
    base, digest = load(settings.checkpoint, settings.device, settings.dtype)
    features = feature_cache(settings, base, digest, settings.feature_cache_mb)
    if work is None:
        print(
            commands.sight(settings, Predictor(base, features), words, options.image, options.most)
        )
        return 0
    served = Serving(base, digest, features, Registry(settings.model_dir), 1).of(project)
    print(
        commands.suggest(
            work, settings, served, words, project, options.label, options.image, options.most
        )
    )
    return 0
