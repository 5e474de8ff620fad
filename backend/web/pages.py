"""The page at `/` for people: what is served, what happened, and a playground.

It is made on the server, works without scripts, and loads nothing from elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flask import (
    Blueprint,
    Flask,
    Response,
    jsonify,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.helpers import send_from_directory
from flask.typing import ResponseReturnValue
from redis.exceptions import RedisError
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from backend.errors import BackendError, BadRequest, QueueUnavailable
from backend.labelstudio.fetch import too_large
from backend.queue import PredictionQueue
from backend.report import duration
from backend.settings import Settings
from backend.training import TrainingLane
from backend.web.lineage import Lineages
from backend.web.playground import KEPT, KEPT_BYTES, MOST_PROMPTS, Picked, Playground, Shown
from backend.web.seats import Seats
from demo import IMAGES

T = TypeVar("T")

log = logging.getLogger(__name__)

FIRST_PROMPTS = "a red circle\na striped square\nthe blue thing"
ENDED = 12  # jobs listed
REASONS = 20  # failures listed of a project
# A form also holds the last image, which base64 makes a third larger, and the prompts.
FORM_BYTES = 2 * KEPT_BYTES

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none, browsers hide the form's own site from us, too
}


class Pages:
    """The endpoints that answer with HTML."""

    def __init__(
        self,
        settings: Settings,
        queue: PredictionQueue,
        lane: TrainingLane,
        lineages: Lineages,
        seats: Seats,
        stopping: Callable[[], bool],
        health: Callable[[], dict[str, Any]],
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._lane = lane
        self._lineages = lineages
        self._seats = seats
        self._health = health
        pictures = (path for path in sorted(IMAGES.iterdir()) if path.suffix in {".jpg", ".png"})
        self._samples = {path.name: path for path in pictures}
        self._playground = Playground(settings, queue, self._samples, stopping)

    def register(self, app: Flask) -> None:
        """Add the pages to an application."""
        pages = Blueprint("pages", __name__, template_folder="templates", static_folder="static")
        pages.add_url_rule("/", "home", self.home, methods=["GET"])
        pages.add_url_rule("/playground", "ask", self.ask, methods=["POST"])
        pages.add_url_rule("/playground", "back", self.back, methods=["GET"])
        pages.add_url_rule("/samples/<name>", "sample", self.sample, methods=["GET"])
        pages.add_url_rule("/reports/<int:project>/<name>", "report", self.report, methods=["GET"])
        pages.add_app_template_filter(duration, "duration")
        pages.after_request(_guarded)
        app.register_blueprint(pages)

    def home(self) -> ResponseReturnValue:
        """The page for browsers; the same JSON as `/health` for programs, as is the convention."""
        if not _wants_page():
            return self._health(), {"Vary": "Accept"}
        return self._page({})

    def ask(self) -> ResponseReturnValue:
        """The page with what a form asked for, or with why not."""
        max_bytes = self._settings.image_max_mb * 2**20
        request.max_content_length = max_bytes + FORM_BYTES
        request.max_form_memory_size = FORM_BYTES
        form: dict[str, str] = {}
        picked: Picked | None = None
        shown: Shown | None = None
        error: BackendError | None = None
        try:
            form = _form()
            with self._seats.one():
                picked = self._playground.pick(form, request.files.get("image"))
                shown = self._playground.ask(self._playground.read(form, picked))
        except RequestEntityTooLarge:
            error = too_large("The upload", max_bytes)
        except QueueUnavailable as full:
            error, upload = full, request.files.get("image")
            if upload and not picked:  # no seat was free
                form["choice"] = self._playground.save(upload)
                if not form["choice"]:
                    error = QueueUnavailable(f"{full} Your image could not be kept: add it again.")
        except BackendError as refused:
            error = refused
        except RedisError as silent:
            error = QueueUnavailable(f"The queue's broker does not answer: {silent}")
        if error:
            log.info("playground: %s: %s", error.name, error)
        return self._page(form, picked, shown, error), error.status if error else 200

    def back(self) -> ResponseReturnValue:
        """To the page; an answer's own address holds nothing without its form."""
        return redirect(url_for("pages.home"))

    def sample(self, name: str) -> ResponseReturnValue:
        """A demo image."""
        return send_from_directory(IMAGES, name)

    def report(self, project: int, name: str) -> Response:
        """How a version of a project was made and judged."""
        return self._lineages.report(project, name)

    def _page(
        self,
        form: Mapping[str, str],
        picked: Picked | None = None,
        shown: Shown | None = None,
        error: BackendError | None = None,
    ) -> str:
        choice = form.get("choice", "")
        health = self._health()
        up = health["broker"] == "UP"  # one that hangs takes seconds to find out, each time
        workers = _unless_down(self._queue.workers) if up else None
        lineages, others = self._lineages.latest(workers[0].digest if workers else None)
        kept = choice if choice.startswith(KEPT) else ""
        if picked and (shown or not picked.sample):
            kept = picked.uri
        return render_template(
            "home.html",
            health=health,
            workers=workers,
            jobs=_unless_down(self._jobs) if up else None,
            training=_unless_down(self._lane.overview) if up else None,
            lineages=lineages,
            others=others,
            settings=self._settings,
            samples={name: path.stem.partition("-")[2] for name, path in self._samples.items()},
            most_prompts=MOST_PROMPTS,
            prompts=form.get("prompts", FIRST_PROMPTS),
            threshold=form.get("threshold") or self._settings.threshold,
            kept=kept,
            choice=choice if choice in self._samples and not kept else "",
            shown=shown,
            error=error,
        )

    def _jobs(self) -> dict[str, Any]:
        jobs = self._queue.jobs()
        projects = [
            {**one, "reasons": dict(list(one["reasons"].items())[:REASONS])}
            for one in jobs["projects"]
        ]
        return {**jobs, "ended": jobs["ended"][:ENDED], "projects": projects}


def _form() -> dict[str, str]:
    """The fields of the form that is sent, as it comes in.

    Raises:
        BadRequest: it ends on its way.
    """
    try:
        return dict(request.form)
    except (OSError, ClientDisconnected):
        raise BadRequest("The upload did not come whole: send it again.") from None


def told(name: str, detail: str) -> Response:
    """What went wrong: a page for browsers, JSON for programs."""
    answer = {"error": name, "detail": detail}
    if not _wants_page():
        as_json = jsonify(answer)
        as_json.headers["Vary"] = "Accept"
        return as_json
    return _guarded(make_response(render_template("complaint.html", **answer)))


def _wants_page() -> bool:
    """Whether HTML is asked for by name; `*/*`, which Label Studio sends, means JSON."""
    best = request.accept_mimetypes.best_match(["application/json", "text/html"])
    return best == "text/html"


def _unless_down(look: Callable[[], T]) -> T | None:
    """What the queue tells; None when its broker does not answer."""
    try:
        return look()
    except RedisError:
        return None


def _guarded(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if response.mimetype == "text/html":
        response.headers["Vary"] = "Accept"
        # kept for who goes back to it, and asked for anew otherwise
        response.headers["Cache-Control"] = "private, no-cache"
    return response
