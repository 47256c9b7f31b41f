"""What is read of Kubernetes' objects (apps/v1, core/v1, meta/v1): the fields that the service looks at, no others.

Names are Kubernetes' own. Absent and null both mean the field's default.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Fields are camelCase on the wire."""


class OwnerReference(Wire, frozen=True):
    kind: str = ""
    name: str = ""
    uid: str = ""


class ObjectMeta(Wire, frozen=True):
    """``deletion_timestamp`` is set while the object is being removed, which nothing takes back."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] | None = None


class Condition(Wire, frozen=True):
    """Of a Deployment or a Pod. ``status``: "True", "False" or "Unknown"."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""


class ContainerStateWaiting(Wire, frozen=True):
    reason: str = ""


class ContainerStateTerminated(Wire, frozen=True):
    reason: str = ""
    exit_code: int = 0


class ContainerState(Wire, frozen=True):
    waiting: ContainerStateWaiting | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Wire, frozen=True):
    name: str = ""
    restart_count: int = 0
    state: ContainerState | None = None
    last_state: ContainerState | None = None


class PodStatus(Wire, frozen=True):
    phase: str = ""
    reason: str = ""
    conditions: tuple[Condition, ...] | None = None
    container_statuses: tuple[ContainerStatus, ...] | None = None


class DeploymentStatus(Wire, frozen=True):
    conditions: tuple[Condition, ...] | None = None


class Object(Wire, frozen=True):
    """What every object has."""

    metadata: ObjectMeta

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.labels or {}

    @property
    def is_ending(self) -> bool:
        return self.metadata.deletion_timestamp is not None


class Pod(Object, frozen=True):
    status: PodStatus | None = None


class Deployment(Object, frozen=True):
    status: DeploymentStatus | None = None


class Service(Object, frozen=True):
    """Only that it is there, and whose."""


class ListMeta(Wire, frozen=True):
    """``continue_``: the token of the next page, empty on the last."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class StatusDetails(Wire, frozen=True):
    retry_after_seconds: int | None = None


class Status(Wire, frozen=True):
    """The body of an answer that is no success (meta/v1 Status)."""

    reason: str = ""
    message: str = ""
    code: int = 0
    details: StatusDetails | None = None


T = TypeVar("T", bound=Object)


class ObjectList(Wire, Generic[T], frozen=True):
    metadata: ListMeta
    items: tuple[T, ...] = ()


class WatchEvent(Wire, frozen=True):
    """``type``: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, whose object is a Status."""

    type: str
    object: msgspec.Raw


class Resource(Generic[T]):
    """A kind of object: where it is served, and how its answers are read."""

    def __init__(self, group_path: str, plural: str, item: type[T]) -> None:
        self.group_path = group_path
        self.plural = plural
        self.item = msgspec.json.Decoder(item)
        self.page: msgspec.json.Decoder[ObjectList[T]] = msgspec.json.Decoder(ObjectList[item])  # type: ignore[valid-type] # the kind is an argument

    def path(self, namespace: str, name: str | None = None) -> str:
        collection = f"/{self.group_path}/namespaces/{namespace}/{self.plural}"
        return collection if name is None else f"{collection}/{name}"


DEPLOYMENTS = Resource("apis/apps/v1", "deployments", Deployment)
SERVICES = Resource("api/v1", "services", Service)
PODS = Resource("api/v1", "pods", Pod)
