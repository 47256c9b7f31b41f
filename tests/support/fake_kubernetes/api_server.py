"""The API, over real HTTP: apps/v1 Deployments, core/v1 Services and Pods of one namespace.

After https://kubernetes.io/docs/reference/using-api/api-concepts/ as far as the service uses it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from tests.support.fake_kubernetes.mishaps import Mishap, Mishaps
from tests.support.fake_kubernetes.object_store import FOREGROUND, Event, ExpiredError, Key, Manifest, ObjectStore
from tests.support.fake_kubernetes.roles import Role
from tests.support.fake_kubernetes.validation import faults_of

_KINDS = {"deployments": "Deployment", "services": "Service", "pods": "Pod"}
_VERSIONS = {"deployments": "apps/v1", "services": "v1", "pods": "v1"}
_METHODS = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "GET": "get"}


class Call(msgspec.Struct, frozen=True):
    """One line of the journal. ``status`` 0: the connection was cut."""

    verb: str
    plural: str
    name: str
    status: int
    query: dict[str, str]
    body: bytes


class ApiServer:
    """Use as a context manager. ``journal`` has every request in the order of their answers; watches when they are
    accepted. ``tokens``: each bearer token's rights."""

    def __init__(
        self,
        store: ObjectStore,
        namespace: str,
        tokens: Mapping[str, Role],
        *,
        bookmark_every_s: float = 0.2,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.store = store
        self.namespace = namespace
        self.tokens = dict(tokens)
        self.mishaps = Mishaps()
        self.journal: list[Call] = []
        self.url = ""
        self.watching: dict[str, int] = dict.fromkeys(_KINDS, 0)  # open watches
        self._bookmark_every_s = bookmark_every_s
        self._tls = tls
        self._port = port
        self._watches: list[web.Request] = []

    async def __aenter__(self) -> ApiServer:
        app = web.Application(client_max_size=4 << 20)
        for group in ("/api/v1", "/apis/apps/v1"):
            collection = f"{group}/namespaces/{{namespace}}/{{plural}}"
            app.router.add_route("*", collection, self._handle)
            app.router.add_route("*", collection + "/{name}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls)
        await site.start()
        port = self._runner.addresses[0][1]
        self._port = port
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.cut_watches()
        await self._runner.cleanup()

    def cut_watches(self) -> None:
        """As a proxy or a server that restarts does."""
        for request in list(self._watches):
            if request.transport is not None:
                request.transport.abort()

    def calls(self, verb: str, plural: str = "") -> list[Call]:
        return [call for call in self.journal if call.verb == verb and plural in {"", call.plural}]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        plural, name = request.match_info["plural"], request.match_info.get("name", "")
        verb = _METHODS.get(request.method, request.method)
        if verb == "get" and not name:
            verb = "watch" if request.query.get("watch") in {"1", "true"} else "list"
        body = await request.read()
        mishap = self.mishaps.take(verb, plural) or Mishap()
        if mishap.held is not None:
            await mishap.held.wait()
        await asyncio.sleep(mishap.delay_s)
        status = 0
        try:
            if mishap.request_lost:
                return self._cut(request)
            if mishap.status:
                status = mishap.status
                return _refusal(status, "Injected", "by the test", retry_after=mishap.retry_after, body=mishap.body)
            response = self._refused(request, verb, plural)
            if response is None and verb == "watch":
                self.journal.append(Call(verb, plural, name, 200, dict(request.query), body))
                return await self._watch(request, plural, mishap)
            response = response or self._carried_out(request, verb, plural, name, body)
            status = response.status
            if mishap.reply_lost:
                status = 0
                return self._cut(request)
            return response
        finally:
            if verb != "watch" or status:
                self.journal.append(Call(verb, plural, name, status, dict(request.query), body))

    def _cut(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _refused(self, request: web.Request, verb: str, plural: str) -> web.Response | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        role = self.tokens.get(token.strip()) if scheme == "Bearer" else None
        if role is None:
            return _refusal(401, "Unauthorized", "Unauthorized")
        group_fits = request.path.startswith("/apis/apps/v1/") == (plural == "deployments")
        if plural not in _KINDS or not group_fits:
            return _refusal(404, "NotFound", "the server could not find the requested resource")
        if request.match_info["namespace"] != self.namespace or not role.allows(verb, plural):
            namespace = request.match_info["namespace"]
            return _refusal(403, "Forbidden", f'cannot {verb} resource "{plural}" in the namespace "{namespace}"')
        return None

    def _carried_out(self, request: web.Request, verb: str, plural: str, name: str, body: bytes) -> web.Response:
        key = Key(plural, self.namespace, name)
        match verb:
            case "get":
                found = self.store.get(key)
                return _not_found(key) if found is None else web.json_response(_typed(plural, found))
            case "list":
                return self._list(request, plural)
            case "create":
                return self._create(plural, body)
            case "patch":
                return self._patch(key, request.content_type, body)
            case "delete":
                return self._delete(key, body)
        return _refusal(405, "MethodNotAllowed", f"{verb} is not served here")

    def _list(self, request: web.Request, plural: str) -> web.Response:
        matching = [
            (key, found)
            for key, found in self.store.peek(plural, self.namespace)
            if _selected(found, request.query.get("labelSelector", ""))
        ]
        version, after = self.store.version, ""
        if token := request.query.get("continue"):
            version, after = json.loads(base64.urlsafe_b64decode(token))
            if version < self.store.compacted_to:
                return _refusal(410, "Expired", "The provided continue parameter is too old")
        limit = int(request.query.get("limit", "0")) or len(matching)
        rest = [found for key, found in matching if key.name > after]
        metadata: Manifest = {"resourceVersion": str(version)}
        if len(rest) > limit:
            last = rest[limit - 1]["metadata"]["name"]
            metadata["continue"] = base64.urlsafe_b64encode(json.dumps([version, last]).encode()).decode()
            metadata["remainingItemCount"] = len(rest) - limit
        kind = f"{_KINDS[plural]}List"
        body = {"kind": kind, "apiVersion": _VERSIONS[plural], "metadata": metadata, "items": rest[:limit]}
        return web.json_response(body)

    def _create(self, plural: str, body: bytes) -> web.Response:
        try:
            manifest = json.loads(body)
        except ValueError:
            return _refusal(400, "BadRequest", "not JSON")
        if faults := faults_of(plural, manifest):
            return _refusal(422, "Invalid", f"{_KINDS[plural]} is invalid: {'; '.join(faults)}")
        key = Key(plural, self.namespace, manifest["metadata"]["name"])
        if (standing := self.store.get(key)) is not None:
            ending = "object is being deleted: " if "deletionTimestamp" in standing["metadata"] else ""
            return _refusal(409, "AlreadyExists", f'{ending}{plural} "{key.name}" already exists')
        return web.json_response(_typed(plural, self.store.create(key, manifest)), status=201)

    def _patch(self, key: Key, content_type: str, body: bytes) -> web.Response:
        if content_type != "application/merge-patch+json":
            return _refusal(
                415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {content_type}"
            )
        found = self.store.get(key)
        if found is None:
            return _not_found(key)
        uid = found["metadata"]["uid"]
        changed = merged(found, json.loads(body))
        if (wanted := changed["metadata"]["uid"]) != uid:
            return _refusal(422, "Invalid", f'metadata.uid: Invalid value: "{wanted}": field is immutable')
        if faults := faults_of(key.plural, _typed(key.plural, changed)):
            return _refusal(422, "Invalid", f"{_KINDS[key.plural]} is invalid: {'; '.join(faults)}")
        return web.json_response(_typed(key.plural, self.store.update(key, changed)))

    def _delete(self, key: Key, body: bytes) -> web.Response:
        found = self.store.get(key)
        if found is None:
            return _not_found(key)
        options = json.loads(body) if body else {}
        uid = found["metadata"]["uid"]
        if (wanted := options.get("preconditions", {}).get("uid", uid)) != uid:
            return _refusal(
                409, "Conflict", f"the UID in the precondition ({wanted}) does not match the UID in record ({uid})"
            )
        if options.get("propagationPolicy") == "Foreground":
            return web.json_response(_typed(key.plural, self.store.mark_ending(key, finalizer=FOREGROUND)))
        self.store.remove(key)
        return web.json_response(_typed(key.plural, found))

    async def _watch(self, request: web.Request, plural: str, mishap: Mishap) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        selector = request.query.get("labelSelector", "")
        version = int(request.query.get("resourceVersion") or self.store.version)
        loop = asyncio.get_running_loop()
        ends_at_s = loop.time() + float(request.query.get("timeoutSeconds", "300"))
        if version < self.store.compacted_to and not mishap.expired_event:
            return _refusal(410, "Expired", "too old resource version")
        await response.prepare(request)
        if mishap.expired_event:
            await response.write(_line("ERROR", _status(410, "Expired", "too old resource version")))
            return response
        self._watches.append(request)
        self.watching[plural] += 1
        try:
            while (left_s := ends_at_s - loop.time()) > 0:
                if mishap.silent:
                    await asyncio.sleep(left_s)
                    break
                events = self.store.events_since(version)
                for event in events:
                    if _concerns(event, plural, self.namespace, selector):
                        await response.write(_line(event.type, _typed(plural, event.object)))
                version = events[-1].version if events else version
                await self.store.wait_for_change(version, min(self._bookmark_every_s, left_s))
                if self.store.version == version and request.query.get("allowWatchBookmarks") == "true":
                    await response.write(_line("BOOKMARK", _bookmark(plural, version)))
        except ExpiredError:
            with contextlib.suppress(ConnectionError):
                await response.write(_line("ERROR", _status(410, "Expired", "too old resource version")))
        except ConnectionError:
            pass
        finally:
            self._watches.remove(request)
            self.watching[plural] -= 1
        return response


def merged(found: Manifest, changes: Manifest) -> Manifest:
    """RFC 7396."""
    result = dict(found)
    for name, change in changes.items():
        if change is None:
            result.pop(name, None)
        elif isinstance(change, dict):
            below = result.get(name)
            result[name] = merged(below if isinstance(below, dict) else {}, change)
        else:
            result[name] = change
    return result


def _concerns(event: Event, plural: str, namespace: str, selector: str) -> bool:
    same = (event.key.plural, event.key.namespace) == (plural, namespace)
    return same and _selected(event.object, selector)


def _selected(found: Manifest, selector: str) -> bool:
    """Equality terms only, which is all that the service sends."""
    labels = found["metadata"].get("labels", {})
    terms = [term.partition("=") for term in selector.split(",") if term]
    return all(labels.get(name) == value for name, _, value in terms)


def _typed(plural: str, found: Manifest) -> Manifest:
    return {"kind": _KINDS[plural], "apiVersion": _VERSIONS[plural], **found}


def _bookmark(plural: str, version: int) -> Manifest:
    return _typed(plural, {"metadata": {"resourceVersion": str(version), "creationTimestamp": None}})


def _line(type_: str, found: Manifest) -> bytes:
    return json.dumps({"type": type_, "object": found}).encode() + b"\n"


def _status(code: int, reason: str, message: str) -> Manifest:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _not_found(key: Key) -> web.Response:
    return _refusal(404, "NotFound", f'{key.plural} "{key.name}" not found')


def _refusal(
    code: int, reason: str, message: str, *, retry_after: str | None = None, body: bytes | None = None
) -> web.Response:
    headers = {"Content-Type": "application/json"}
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    content: Any = json.dumps(_status(code, reason, message)).encode() if body is None else body
    return web.Response(status=code, headers=headers, body=content)
