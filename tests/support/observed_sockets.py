"""The sockets of a browser's page as the browser itself reports them, counted without the page's help."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Page, WebSocket
from session_service_client.events import Position
from session_service_client.sequence import SequenceChecker


class ObservedSocket:
    """One socket. ``violations``: each frame that broke the sequence rule on it, in words."""

    def __init__(self, socket: WebSocket) -> None:
        self.url = socket.url
        self.query = {name: values[0] for name, values in parse_qs(urlsplit(socket.url).query).items()}
        self.connected: dict[str, Any] | None = None
        self.violations: list[str] = []
        self.ranges: list[tuple[int, int, int]] = []  # epoch, first, last: of frames that are no snapshots
        self.types: list[str] = []
        self.open = True
        self._checker = SequenceChecker(None)
        socket.on("framereceived", self._received)
        socket.on("close", self._closed)

    def _closed(self, _socket: WebSocket) -> None:
        self.open = False

    def _received(self, payload: str | bytes) -> None:
        frame: dict[str, Any] = json.loads(payload)
        self.types.append(frame["type"])
        if frame["type"] == "connected":
            self._begins(frame)
        elif frame["type"] == "exchange_data":
            self._exchange_data(frame)

    def _begins(self, frame: dict[str, Any]) -> None:
        self.connected = frame
        if not frame["resumed"]:
            return
        stated = (self.query.get("epoch"), self.query.get("sequence"))
        if stated != (str(frame["epoch"]), str(frame["sequence"])):
            self.violations.append(f"resumed at {frame['epoch']}:{frame['sequence']}, which was not asked for")
        self._checker = SequenceChecker(Position(frame["epoch"], frame["sequence"]))

    def _exchange_data(self, frame: dict[str, Any]) -> None:
        epoch, first, last = frame["epoch"], frame["fromSequence"], frame["sequence"]
        violation = self._checker.check(epoch, first, last, snapshot=frame["snapshot"])
        if violation is not None:
            self.violations.append(f"{violation.kind}: {epoch}:{first}…{last}, expected {violation.expected}")
        elif not frame["snapshot"]:
            self.ranges.append((epoch, first, last))


class ObservedSockets:
    """Every socket that a page has opened since this was made, in order."""

    def __init__(self, page: Page) -> None:
        self.sockets: list[ObservedSocket] = []
        page.on("websocket", lambda socket: self.sockets.append(ObservedSocket(socket)))

    @property
    def established(self) -> list[ObservedSocket]:
        return [socket for socket in self.sockets if socket.connected is not None]

    @property
    def violations(self) -> list[str]:
        return [violation for socket in self.sockets for violation in socket.violations]

    @property
    def pods(self) -> list[str]:
        """Where the established ones went, one after the other."""
        return [str(socket.connected and socket.connected["podName"]) for socket in self.established]

    def missing(self) -> list[int]:
        """Numbers that no socket brought, between the first and the last that came, epoch by epoch."""
        covered: dict[int, set[int]] = {}
        for socket in self.sockets:
            for epoch, first, last in socket.ranges:
                covered.setdefault(epoch, set()).update(range(first, last + 1))
        return [
            number
            for numbers in covered.values()
            for number in range(min(numbers), max(numbers))
            if number not in numbers
        ]

    def updates(self) -> int:
        """How many numbers came, those that two sockets brought counted once."""
        return len(
            {
                (epoch, number)
                for one in self.sockets
                for epoch, first, last in one.ranges
                for number in range(first, last + 1)
            }
        )
