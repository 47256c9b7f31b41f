"""The name that tests give to a plain connection to a test's own database."""

from __future__ import annotations

from typing import Any, TypeAlias

import asyncpg

Sql: TypeAlias = "asyncpg.Connection[Any]"
