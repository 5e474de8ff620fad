"""What a log says of a broker that is away for a while."""

import logging

from redis.exceptions import RedisError


class Outage:
    """Says that the broker is away, and that it is back: once each, however often it is tried."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lasts = False

    def goes_on(self, error: RedisError) -> None:
        """The broker did not do what it was asked for."""
        if not self._lasts:
            self._log.warning("the broker does not answer, and is tried on and on: %s", error)
        self._lasts = True

    def ends(self) -> None:
        """It did."""
        if self._lasts:
            self._log.warning("the broker answers again")
        self._lasts = False
