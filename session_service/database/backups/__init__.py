"""``session-service backup`` and ``restore`` (docs/backup.md, ADR 0030)."""
