"""The table of named sessions as the documented service leaves it, in a database of its own."""

from __future__ import annotations

import msgspec

from session_service.database.migrations import MigrationReport, migrate
from tests.support.cluster_template import SERVICE_PASSWORD, SERVICE_ROLE
from tests.support.servers import Database

NAME = "of_the_old_service"

# As SQLAlchemy's create_all makes it from the documented model: defaults of Python are none of the column's.
OF_THE_MODEL = """
    CREATE TABLE public.sessions (
        id UUID DEFAULT gen_random_uuid() NOT NULL,
        user_id INTEGER NOT NULL,
        title VARCHAR NOT NULL,
        active BOOLEAN,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT now(),
        PRIMARY KEY (id)
    )
"""
# As the document writes it in SQL.
AS_WRITTEN = """
    CREATE TABLE sessions (
        id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
        user_id INTEGER NOT NULL,
        title VARCHAR NOT NULL,
        active BOOLEAN DEFAULT FALSE,
        created_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
        updated_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP
    );
    CREATE INDEX idx_sessions_user_id ON sessions(user_id);
    CREATE INDEX idx_sessions_active ON sessions(user_id, active) WHERE active = TRUE;
"""
ROWS = "SELECT id, user_id, title, active, created_at, updated_at FROM public.sessions ORDER BY id"


async def migrated(dsn: str) -> MigrationReport:
    return await migrate(dsn, service_role=SERVICE_ROLE, service_password=SERVICE_PASSWORD)


def on(database: Database) -> dict[str, str]:
    """What makes a pod use the old service's database. ``database``: any of the same server."""
    return {
        **msgspec.structs.replace(database, name=NAME).environ(),
        "SIMULATOR_BACKEND": "service",
        "EXCHANGE_MANAGER_SERVICE": "127.0.0.1:1",
    }
