"""The application on gunicorn: threads, since requests wait for the queue and not for a CPU."""

from __future__ import annotations

import logging
import socket
import struct
import time
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.workers.gthread import ThreadWorker

from backend.queue import connect
from backend.settings import Settings
from backend.web.app import create_app

GRACE = 3  # seconds that requests in flight have to end when the server stops
WAIT = 1.5  # of which they may go on waiting for the worker
PAUSE = 5  # seconds that a client may pause within a request: until then it keeps a thread
PATIENCE = 5.0  # seconds that the broker may be silent: no call here takes a tenth of one


class Server(BaseApplication):  # type: ignore[misc]
    """One gunicorn worker process with `THREADS` threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: ThreadWorker | None = None
        self._stopped_at: float | None = None
        super().__init__()

    def load_config(self) -> None:
        """Options in gunicorn's own names."""
        settings = self._settings
        options: dict[str, Any] = {
            "bind": settings.listens_at,
            "workers": 1,
            "worker_class": "gthread",
            "threads": settings.threads,
            "timeout": 0,  # a long request is the deadline's business
            "graceful_timeout": GRACE,
            "keepalive": 5,
            "loglevel": "warning",
            "control_socket_disable": True,  # one path for all servers of a user, in their home
            "proc_name": "promptbrush-web",
            "post_fork": self._start,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """The application, made in the process that serves it."""
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        connection = connect(self._settings.broker_url, PATIENCE)
        return create_app(self._settings, connection, self._stopping)

    def _start(self, _: Any, process: ThreadWorker) -> None:
        self._process = process
        for listening in process.sockets:
            # gunicorn's threads read without a timeout; connections inherit this one
            pause = struct.pack("ll", PAUSE, 0)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, pause)

    def _stopping(self) -> bool:
        """Whether requests should stop waiting and answer with what is ready."""
        if self._process is None or self._process.alive:
            return False
        self._stopped_at = self._stopped_at or time.monotonic()
        return time.monotonic() - self._stopped_at > WAIT
