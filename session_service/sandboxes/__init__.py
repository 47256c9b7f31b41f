"""Sandbox sessions for services (docs/sandbox-sessions.md): the inbox over HTTP, its waiters, changes and upkeep."""
