"""``python -m benchmarks.named_sessions_004 PORT``: one worker on uvloop and httptools, without an access log."""

from __future__ import annotations

import sys

import uvicorn

from benchmarks.named_sessions_004.app import create_app
from benchmarks.named_sessions_004.config import Settings

uvicorn.run(
    create_app(Settings()),
    host="127.0.0.1",
    port=int(sys.argv[1]),
    loop="uvloop",
    http="httptools",
    access_log=False,
    log_level="warning",
)
