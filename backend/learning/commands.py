"""`promptbrush export`, `train`, `prompts measure` and `suggest`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from backend.errors import BackendError, BadRequest, ImageMissing
from backend.inference.books import Books
from backend.inference.failures import needing_memory
from backend.inference.features import FeatureCache
from backend.inference.offering import of_image
from backend.inference.pipeline import Served
from backend.inference.predictor import Predictor
from backend.inference.promptbook import PromptBook
from backend.inference.vocabulary import Vocabulary
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import ImageStore, TaskImage, open_image
from backend.learning import acceptance, suggestions
from backend.learning import export as files
from backend.learning.acceptance import Acceptance
from backend.learning.annotated import marked
from backend.learning.dataset import Account, Marked, Part, Sample, seen
from backend.learning.measure import Figures, Measured, measure
from backend.learning.recipe import Recipe
from backend.learning.registry import Registry
from backend.learning.source import Studio
from backend.learning.train import Progress, Source, Stage, Told, Trained, alone, train
from backend.prompting import Query, queries
from backend.settings import Settings
from models import Segmenter

log = logging.getLogger(__name__)


def export(settings: Settings, studio: Studio, project: int, out: Path) -> str:
    """Write a project's accepted annotations to a folder; tells what was used.

    Raises:
        BadRequest: the folder has an export of another project.
        LabelStudioError: Label Studio cannot be asked.
        TooLittleData: nothing is known of the project.
        BadLabelConfig: the project has nothing to fill.
    """
    xml = studio.project(project)["label_config"]
    account = Account()
    tasks = tqdm(studio.annotated_tasks(project), unit="task", disable=None)
    found = marked(tasks, parse_label_config(xml), ImageStore.of(settings), account)
    files.write(seen(found), xml, project, account, out)
    return str(account)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A project's accepted work, wherever it is kept."""

    label_config: str
    source: Source
    marked: Callable[[Account], Iterator[Marked]]  # everything, to be seen or not
    acceptance: Callable[[], Acceptance]  # what became of the project's predictions


def accepted_in_studio(settings: Settings, studio: Studio, project: int) -> Accepted:
    """What Label Studio has of a project, or webhooks brought.

    Raises:
        LabelStudioError: Label Studio cannot be asked.
        TooLittleData: nothing is known of the project.
        BadLabelConfig: the project has nothing to fill.
    """
    xml = studio.project(project)["label_config"]
    config, images = parse_label_config(xml), ImageStore.of(settings)

    def source(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        tasks = studio.annotated_tasks(project)
        return seen(marked(tasks, config, images, account, parts, studio.began_with))

    def all_marked(account: Account) -> Iterator[Marked]:
        # what was corrected is for training alone, and has to be asked for
        return marked(studio.annotated_tasks(project), config, images, account)

    return Accepted(
        xml, source, all_marked, lambda: acceptance.measure(studio, project, settings.model_dir)
    )


def accepted_in_folder(settings: Settings, folder: Path, project: int) -> Accepted:
    """What an export has.

    Raises:
        BadRequest: the folder is no export of that project.
    """
    most = settings.image_max_megapixels * 10**6
    held, _, _ = files.read(folder, most, Account())
    if held != project:
        raise BadRequest(f"{folder} is an export of project {held}, not of {project}.")

    def source(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        return seen(files.read(folder, most, account, parts)[2])

    xml = (folder / files.CONFIG).read_text(encoding="utf-8")

    def all_marked(account: Account) -> Iterator[Marked]:
        return files.read(folder, most, account)[2]

    return Accepted(xml, source, all_marked, lambda: Acceptance.of(settings.model_dir, project))


@dataclass(frozen=True, slots=True)
class Learner:
    """A project that learns from its accepted work."""

    settings: Settings
    base: Segmenter  # the base checkpoint
    digest: str  # of its files
    features: FeatureCache  # what encoded images are looked up in
    project: int
    accepted: Accepted

    @needing_memory()
    def measure(self, told: Told = lambda _: None) -> Measured:
        """Find out what the project's labels are best asked with, as it is served."""
        return self._measure(self.accepted.acceptance(), told)

    def _measure(self, acceptance: Acceptance, told: Told) -> Measured:
        registry = Registry(self.settings.model_dir)
        active = registry.active(self.project, self.digest)
        if active is None:
            found = self._figures(Predictor(self.base, self.features), told)
            return self._write(found, None, acceptance)
        found = self._figures(self._tuned(registry.weights(active), active.id), told)
        return self._write(found, active.id, acceptance)

    @needing_memory()
    def learn(self, recipe: Recipe, told: Told) -> Trained:
        """Measure, and train; a version that is promoted comes with what was measured with it.

        The prompt book comes first, as it needs less than a training does; see `train`, which says
        what is raised.
        """
        models = self.settings.model_dir
        with alone(models, self.project):  # before the time that measuring takes
            pass
        acceptance = self.accepted.acceptance()
        self._measure(acceptance, told)
        books, found = Books(models), list[Figures]()

        def rehearse(weights: Mapping[str, Tensor]) -> PromptBook:
            found.append(self._figures(self._tuned(weights, Registry.name(weights)), told))
            return books.showing(found[-1].over(books.book(self.project)))

        trained = train(
            self.base,
            self.digest,
            Registry(models),
            models,
            self.project,
            parse_label_config(self.accepted.label_config),
            self.accepted.source,
            book=books.serving(self.project, self.digest),
            rehearse=rehearse,
            threshold=self.settings.threshold,
            recipe=recipe,
            memory=self.settings.train_memory_mb * 2**20,
            told=told,
        )
        if trained.verdict.promoted:
            try:
                self._write(found[-1], trained.version.id, acceptance)
            except (BackendError, OSError) as error:  # it is served nevertheless
                log.warning("prompts of project %d are as before: %s", self.project, error)
        return trained

    def _tuned(self, weights: Mapping[str, Tensor], version: str) -> Predictor:
        return Predictor.tuned(self.base, weights, version, self.features)

    def _figures(self, predictor: Predictor, told: Told) -> Figures:
        """What the project's labels are best asked with by a predictor."""
        return measure(
            predictor,
            self.digest,
            Books(self.settings.model_dir),
            self.project,
            parse_label_config(self.accepted.label_config),
            self.accepted.marked,
            threshold=self.settings.threshold,
            told=told,
        )

    def _write(self, found: Figures, tuned: str | None, acceptance: Acceptance) -> Measured:
        """Write what was measured with a version into the prompt book."""
        return found.write(
            Books(self.settings.model_dir),
            self.project,
            parse_label_config(self.accepted.label_config),
            acceptance,
            threshold=self.settings.threshold,
            tuned=tuned,
        )


@contextmanager
def progress_bar() -> Iterator[Told]:
    """Shows on the terminal what it is told."""
    with tqdm(disable=None) as bar:
        shown: Stage | None = None

        def tell(progress: Progress) -> None:
            nonlocal shown
            look = progress.look
            bar.unit, bar.total = ("image", None) if look is None else ("step", look.steps)
            if shown != progress.stage:  # which has a pace of its own
                shown = progress.stage
                bar.set_description_str(shown, refresh=False)
                bar.set_postfix_str("", refresh=False)
                bar.reset()
            bar.n = progress.images if look is None else look.step
            if look is not None:
                bar.set_postfix_str(
                    f"loss {look.loss:.3f}, IoU {look.iou:.3f}, {look.seconds_left:.0f} s left",
                    refresh=False,
                )
            bar.update(0)

        yield tell


def outcome(trained: Trained) -> str:
    """How a training went, for people."""
    became = "is active" if trained.verdict.promoted else "is rejected"
    return (
        f"{trained.account}\n\nVersion {trained.version.id} {became}: {trained.verdict.reason}.\n"
        f"Report: {trained.report}"
    )


def suggest(
    accepted: Accepted,
    settings: Settings,
    served: Served,
    vocabulary: Vocabulary,
    project: int,
    label: str | None,
    image: Path | None,
    most: int,
) -> str:
    """Phrases for a project's labels, or one, as tables with their proof.

    Args:
        accepted: What annotators accepted.
        settings: Of the service.
        served: What the project is answered with.
        vocabulary: Words to try.
        project: The project's id.
        label: Of all labels only that.
        image: To be looked at instead of accepted work.
        most: Phrases of a label.

    Raises:
        BadRequest: there is no such label.
        NothingToGoBy: nothing was accepted of any label, and there is no image.
        ImageMissing: the image cannot be read.
    """
    book = Books(settings.model_dir).serving(project, served.digest)
    asked = queries(parse_label_config(accepted.label_config), settings.threshold, book)
    wanted = suggestions.chosen(asked, label)
    if image is None:
        found = suggestions.from_accepted(
            served.predictor, accepted.source, wanted, vocabulary, book
        )
        silent = [name for name in wanted if name not in {one.label for one in found}]
        told = [suggestions.told(one, most) for one in found]
        told += [f"{name}: nothing of it is accepted yet." for name in silent]
        return "\n\n".join(told)
    if label is None:
        return sight(settings, served.predictor, vocabulary, image, most, asked)
    shown = _shown(settings, image)
    one = suggestions.from_image(served.predictor, shown, wanted[label], vocabulary, book)
    return suggestions.told(one, most)


def sight(
    settings: Settings,
    predictor: Predictor,
    vocabulary: Vocabulary,
    image: Path,
    most: int,
    asked: Sequence[Query] = (),
) -> str:
    """What is in an image, as a table: words of a vocabulary, and of what is asked.

    Raises:
        ImageMissing: the image cannot be read.
        ImageUnreadable: it is none.
    """
    shown = _shown(settings, image)
    seen = of_image(predictor, shown, asked, (), vocabulary, settings.threshold)
    return suggestions.phrase_table(seen[:most])


def _shown(settings: Settings, image: Path) -> TaskImage:
    try:
        content = image.read_bytes()
    except OSError as error:
        raise ImageMissing(f"{image} cannot be read: {error.strerror}.") from None
    opened = open_image(content, str(image), settings.image_max_megapixels * 10**6)
    return TaskImage(opened, hashlib.sha256(content).hexdigest())
