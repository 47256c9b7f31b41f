"""The table ``sessions`` with the document's columns and indexes."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, Index, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )


class SessionModel(Base):
    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=func.gen_random_uuid())
    user_id: Mapped[int]
    title: Mapped[str]
    active: Mapped[bool] = mapped_column(default=False, server_default=text("false"))

    __table_args__ = (
        Index("idx_sessions_user_id", "user_id"),
        Index("idx_sessions_active", "user_id", "active", postgresql_where=text("active = TRUE")),
    )
