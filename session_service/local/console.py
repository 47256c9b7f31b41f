"""What a person sees of a local run: progress on a terminal, quiet lines elsewhere. All of it goes to stderr; stdout
carries the ready line alone, for programs.
"""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TextIO

_DONE, _ATTENTION, _BOLD, _PLAIN = "\x1b[32m✓\x1b[0m", "\x1b[33m!\x1b[0m", "\x1b[1m", "\x1b[0m"


class Console:
    """``clock`` is a monotonic clock in seconds; the time since the start is shown beside each step."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._terminal = self._stream.isatty()
        self._started_s = time.monotonic()

    def step(self, text: str) -> None:
        """Something is done."""
        elapsed_s = time.monotonic() - self._started_s
        self._write(f"  {_DONE} {text}  ({elapsed_s:.1f} s)" if self._terminal else f"local: {text}")

    def attention(self, text: str) -> None:
        """Something that a person should know of."""
        self._write(f"  {_ATTENTION} {text}" if self._terminal else f"local: {text}")

    def welcome(self, *, url: str, page: bool, data_dir: Path, description: Path, logs: Path) -> None:
        """How to try it: the address to open where there is a page, and lines that work as pasted."""
        program = Path(sys.executable).with_name("session-service")
        tool = shlex.quote(str(_relative(program)))
        python = shlex.quote(str(_relative(Path(sys.executable))))
        bold, plain = (_BOLD, _PLAIN) if self._terminal else ("", "")
        socket_url = url.replace("http:", "ws:", 1)
        in_a_browser = f"\n{bold}Open {url}{plain} in a browser\n" if page else ""
        self._write(
            f"""{in_a_browser}
{bold}Try it{plain} (in another terminal, same directory)

  export TOKEN=$({tool} token --user-id demo --data-dir {shlex.quote(str(_relative(data_dir)))})

  curl -s -X POST {url}/api/sessions -H "Authorization: Bearer $TOKEN" \\
       -H 'Content-Type: application/json' -d '{{"deviceId": "laptop"}}'

  {python} - "$TOKEN" <<'END'
import asyncio, sys, aiohttp
async def main():
    headers = {{"Authorization": "Bearer " + sys.argv[1]}}
    url = "{socket_url}/ws?deviceId=laptop"
    async with aiohttp.ClientSession() as http, http.ws_connect(url, headers=headers) as ws:
        await ws.send_json({{"type": "start_simulator", "requestId": "1"}})
        async for frame in ws:
            print(frame.data[:160])
asyncio.run(main())
END

API       {url}/docs
Where     {_relative(description)}
Logs      {_relative(logs)}/
Stop      Ctrl-C
"""
        )

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # a closed terminal is no reason to stop serving


def _relative(path: Path) -> Path:
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
