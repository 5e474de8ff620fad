"""Label Studio's events, waiting to be learnt from: bounded, oldest out first.

They are kept in the broker, so that a webhook is acknowledged whatever learning is busy with. The
bound is in bytes, since an annotation can hold megabytes of masks, and events are compressed, since
each holds the labeling configuration, which of a thousand labels is 70 kB. What falls out is
counted; who has an API key can fetch it from Label Studio.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from redis import Redis
from redis.client import Pipeline
from rq.utils import as_text

from backend.labelstudio.events import Event
from backend.scripts import PREFIX

STREAM = f"{PREFIX}events"
MOST_BYTES = 64 * 1024**2
_EFFORT = 1  # of 1 to 9: a fifth of a millisecond for 70 kB, and little is gained by more

_ADD = f"""
local stream, most, event = '{STREAM}', tonumber(ARGV[1]), ARGV[2]
local size, count = stream .. ':bytes', stream .. ':dropped'
if #event > most then return redis.call('INCR', count) end
redis.call('XADD', stream, '*', 'event', event)
local bytes = redis.call('INCRBY', size, #event)
while bytes > most do
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  redis.call('XDEL', stream, oldest[1])
  redis.call('INCR', count)
  bytes = redis.call('DECRBY', size, #oldest[2][2])
end
"""

_FORGET = f"""
local stream = '{STREAM}'
for _, id in ipairs(ARGV) do
  local entry = redis.call('XRANGE', stream, id, id)[1]
  if entry then
    redis.call('XDEL', stream, id)
    redis.call('DECRBY', stream .. ':bytes', #entry[2][2])
  end
end
"""


def written(event: Event) -> str:
    """An event as it waits.

    Raises:
        RecursionError: what it holds nests too deep.
    """
    return json.dumps(asdict(event))


class Inbox:
    """The events on an open connection."""

    def __init__(self, connection: Redis, most_bytes: int = MOST_BYTES) -> None:
        self._connection = connection
        self._most_bytes = most_bytes

    def add(self, event: Event) -> None:
        """Keep an event; the oldest go where there is no room for all."""
        self.put(written(event))

    def put(self, event: str) -> None:
        """Keep an event that is written already."""
        self._connection.eval(_ADD, 0, self._most_bytes, zlib.compress(event.encode(), _EFFORT))

    def oldest(self, most: int, after: str = "") -> list[tuple[str, dict[str, Any]]]:
        """Up to `most` events with their ids, oldest first; they stay until forgotten.

        With the id of one, those that came after it.
        """
        begin = f"({after}" if after else "-"
        entries: Any = self._connection.xrange(STREAM, min=begin, count=most)
        return [(as_text(name), _read(fields[b"event"])) for name, fields in entries]

    def forget(self, names: Sequence[str], pipeline: Pipeline | None = None) -> None:
        """Drop events that were learnt from; with a pipeline, when that is executed."""
        (self._connection if pipeline is None else pipeline).eval(_FORGET, 0, *names)

    def counts(self) -> dict[str, int]:
        """How many wait, how large they are together, and how many fell out."""
        size, dropped = self._connection.mget([f"{STREAM}:bytes", f"{STREAM}:dropped"])
        return {
            "count": self._connection.xlen(STREAM),
            "bytes": int(size or 0),
            "dropped": int(dropped or 0),
        }


def _read(event: bytes) -> dict[str, Any]:
    """An event that waits; those that an earlier version left there are plain."""
    plain = event if event.startswith(b"{") else zlib.decompress(event)
    told: dict[str, Any] = json.loads(plain)
    return told
