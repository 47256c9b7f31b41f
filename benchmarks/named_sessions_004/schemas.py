"""Bodies of requests and answers."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict


class NewSession(BaseModel):
    title: str


class SessionCreate(NewSession):
    user_id: int
    active: bool = True


class SessionRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    user_id: int
    title: str
    active: bool


class Detail(BaseModel):
    detail: str
