"""What a page cost, out of Chromium's trace (the Trace Event Format; times in it are microseconds). Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

CATEGORIES = (
    "toplevel",
    "disabled-by-default-devtools.timeline",
    "disabled-by-default-devtools.timeline.frame",
)
MAIN_THREAD = "CrRendererMain"
TASK = "RunTask"
FRAME = "PipelineReporter"
PRESENTED = ("STATE_PRESENTED_ALL", "STATE_PRESENTED_PARTIAL")

Event = Mapping[str, Any]


class PageCost(msgspec.Struct, frozen=True):
    """Tasks of the page's main thread, and the frames it presented, each from its begin signal to the display.

    ``task_cpu_s``: processor time of all tasks, which a busy neighbour does not change; ``task_ms``, ``frame_ms``: by
    the clock, in order of length.
    """

    task_cpu_s: float
    task_ms: tuple[float, ...]
    frame_ms: tuple[float, ...]


def page_cost(trace: bytes, url: str) -> PageCost:
    """The cost of the page whose address begins with ``url``. Raises LookupError where the trace has none."""
    events: list[Event] = json.loads(trace)["traceEvents"]
    pid = _process(events, url)
    mine = [event for event in events if event["pid"] == pid]
    main = {event["tid"] for event in mine if event["name"] == "thread_name" and event["args"]["name"] == MAIN_THREAD}
    tasks = [event for event in mine if event["name"] == TASK and event["ph"] == "X" and event["tid"] in main]
    return PageCost(
        task_cpu_s=sum(task.get("tdur", 0) for task in tasks) / 1e6,
        task_ms=tuple(sorted(task.get("dur", 0) / 1e3 for task in tasks)),
        frame_ms=tuple(sorted(_frames_ms(mine))),
    )


def _process(events: Iterable[Event], url: str) -> int:
    for event in events:
        if event["name"] == "TracingStartedInBrowser":
            for frame in event["args"]["data"]["frames"]:
                if frame["url"].startswith(url):
                    pid: int = frame["processId"]
                    return pid
    raise LookupError(url)


def _frames_ms(events: Iterable[Event]) -> Iterable[float]:
    """Begin and end of a frame share an id, which is used again once it is free."""
    begun: dict[str, Event] = {}
    for event in sorted((one for one in events if one["name"] == FRAME), key=lambda one: one["ts"]):
        frame = event["id2"]["local"]
        if event["ph"] == "b":
            begun[frame] = event
        elif frame in begun:
            begin = begun.pop(frame)
            if begin["args"]["frame_reporter"]["state"] in PRESENTED:
                yield (event["ts"] - begin["ts"]) / 1e3
