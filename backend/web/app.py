"""The Flask application: routes, errors as JSON, authentication."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue
from redis import Redis
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException

from backend import metrics
from backend.errors import BackendError, BadRequest, InternalError, QueueUnavailable
from backend.inbox import Inbox
from backend.inference.books import Books
from backend.learning.predicted import Predicted
from backend.learning.versions import Versions
from backend.queue import PredictionQueue
from backend.settings import Settings
from backend.training import TrainingLane
from backend.web import auth
from backend.web.lately import Lately
from backend.web.lineage import Lineages
from backend.web.pages import Pages, told
from backend.web.routes import Routes
from backend.web.seats import Seats

log = logging.getLogger(__name__)

READING = frozenset({"GET", "HEAD", "OPTIONS"})  # methods that change nothing


def create_app(
    settings: Settings, connection: Redis, stopping: Callable[[], bool] = lambda: False
) -> Flask:
    """The application on an open connection; `stopping` tells that the server is shutting down."""
    app = Flask("promptbrush", static_folder=None)
    app.url_map.strict_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = settings.request_max_mb * 2**20
    app.json.sort_keys = False  # type: ignore[attr-defined]
    queue = PredictionQueue(connection)
    versions, books = Versions(settings.model_dir), Books(settings.model_dir)
    lane = TrainingLane(connection)
    lineages = Lineages(settings.model_dir, versions)
    inbox, predicted, seats = Inbox(connection), Predicted.of(settings), Seats(settings.threads)
    lately = Lately(connection)
    routes = Routes(
        settings, queue, inbox, lane, versions, lineages, books, predicted, lately, seats, stopping
    )
    routes.register(app)
    Pages(settings, queue, lane, lineages, seats, stopping, routes.health).register(app)

    @app.before_request
    def admit() -> None:
        if settings.basic_auth_user is not None and settings.basic_auth_pass is not None:
            auth.check(
                request.path,
                request.headers.get("Authorization"),
                settings.basic_auth_user,
                settings.basic_auth_pass,
            )
        if request.method not in READING:
            headers = request.headers
            auth.check_site(headers.get("Sec-Fetch-Site"), headers.get("Origin"), request.host)

    @app.after_request
    def count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "other"

        def after_it_was_sent() -> None:
            try:
                metrics.count_request(connection, route, response.status_code)
            except RedisError:
                log.debug("a request was not counted: the broker does not answer")

        response.call_on_close(after_it_was_sent)
        return response

    app.register_error_handler(BackendError, _known)
    app.register_error_handler(RedisError, _broker)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(RecursionError, _nested)
    app.register_error_handler(Exception, _unknown)
    return app


def _known(error: BackendError) -> ResponseReturnValue:
    log.warning("%s %s: %s: %s", request.method, request.path, error.name, error)
    headers = {"WWW-Authenticate": 'Basic realm="promptbrush"'} if error.status == 401 else {}
    return told(error.name, str(error)), error.status, headers


def _broker(error: RedisError) -> ResponseReturnValue:
    return _known(QueueUnavailable(f"The queue's broker does not answer: {error}"))


def _http(error: HTTPException) -> ResponseReturnValue:
    name = (error.name or "Error").title().replace(" ", "")
    return told(name, error.description or ""), error.code or 500


def _nested(_: RecursionError) -> ResponseReturnValue:
    # nothing of ours goes deeper than what was sent, which is read here, and written to the queue
    return _known(BadRequest("The body nests too deep to be read: no task or event does."))


def _unknown(error: Exception) -> ResponseReturnValue:
    log.exception("%s %s failed unexpectedly", request.method, request.path)
    return _known(InternalError("A defect in promptbrush; the server's log has the traceback."))
