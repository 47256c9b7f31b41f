"""Every route of a pod in one table, and the application that serves it."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Middleware

from session_service.api.authentication import AuthenticatedHandler, authenticated, with_scope
from session_service.api.browser_page import page_routes
from session_service.api.cors import setup_cors
from session_service.api.docs import docs_routes
from session_service.api.health import HealthHandlers, HealthState
from session_service.api.local_handlers import LocalHandlers
from session_service.api.metrics_endpoint import metrics_handler
from session_service.api.middleware import (
    add_common_headers,
    error_middleware,
    metrics_middleware,
    request_context_middleware,
)
from session_service.api.named_session_errors import NAMED_SESSIONS_PATH
from session_service.api.named_session_handlers import (
    NamedSessionHandlers,
    by_number,
    handle_extra_slash,
    handle_missing_slash,
)
from session_service.api.order_handlers import OrderHandlers
from session_service.api.page_files import built_page
from session_service.api.responses import MAX_BODY_BYTES
from session_service.api.sandbox_events import SandboxEventHandlers
from session_service.api.sandbox_handlers import SandboxHandlers
from session_service.api.session_handlers import SessionHandlers
from session_service.api.simulator_handlers import SimulatorHandlers
from session_service.clients.auth import AuthClient
from session_service.config import BrowserPage, Settings
from session_service.domain.identity import SCOPE_SANDBOX
from session_service.named_sessions.service import NamedSessionService
from session_service.sandboxes.changes import ChangeFollower
from session_service.sandboxes.service import SandboxSessionService
from session_service.sessions.manager import SessionManager
from session_service.telemetry.metrics import Metrics
from session_service.websocket.manager import WebSocketManager
from session_service.wire.proxies import trusted_networks


def build_app(
    *,
    sessions: SessionManager,
    named_sessions: NamedSessionService,
    auth: AuthClient,
    websockets: WebSocketManager,
    sandboxes: SandboxSessionService,
    sandbox_changes: ChangeFollower,
    metrics: Metrics,
    settings: Settings,
    health: HealthState,
    tracing_middleware: Middleware | None = None,
) -> web.Application:
    """The application of one pod. It starts and closes nothing: components come built, and their owner closes them.

    Serve it with ``HttpServer``. Raises ValueError for a TRUSTED_PROXIES that
    ``config.check_for_serving`` would have refused.
    """
    trusted = trusted_networks(settings.server.trusted_proxies)
    middlewares: list[Middleware] = [
        request_context_middleware,
        metrics_middleware(metrics, trusted),
        error_middleware,
    ]
    if tracing_middleware is not None:
        middlewares.insert(0, tracing_middleware)
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(add_common_headers)

    session_handlers = SessionHandlers(sessions, pod_name=settings.server.pod_name, trusted=trusted)
    rest = app.router.add_routes(
        [
            *_session_routes(auth, session_handlers),
            *_simulator_routes(auth, SimulatorHandlers(sessions)),
            *_order_routes(auth, OrderHandlers(sessions)),
            *_named_session_routes(auth, NamedSessionHandlers(named_sessions)),
            *(_local_routes(auth, LocalHandlers(websockets)) if settings.local_run.control_url else ()),
            *_sandbox_event_routes(auth, SandboxEventHandlers(sandbox_changes, metrics)),
            *_sandbox_routes(auth, SandboxHandlers(sandboxes)),
            # The stream reads its token as a WebSocket does, by WEBSOCKET_QUERY_TOKEN's rule.
            web.get("/api/sessions/{session_id}/events", websockets.handle_event_stream, allow_head=False),
        ]
    )
    app.router.add_get("/ws", websockets.handle_connection, allow_head=False)
    app.router.add_routes(_operation_routes(HealthHandlers(health)))
    if settings.server.metrics_port is None:
        app.router.add_get("/metrics", metrics_handler(metrics))
    app.router.add_routes(docs_routes())
    if settings.server.browser_page is BrowserPage.ON:
        app.router.add_routes(page_routes(built_page(), settings.local_run))
    setup_cors(app, rest, settings.server.cors_allowed_origins)
    return app


def _session_routes(auth: AuthClient, handlers: SessionHandlers) -> Sequence[web.RouteDef]:
    one = "/api/sessions/{session_id}"
    return [
        _route(auth, "POST", "/api/sessions", handlers.handle_create_session),
        _route(auth, "GET", "/api/sessions", handlers.handle_list_sessions),
        _route(auth, "DELETE", "/api/sessions", handlers.handle_end_sessions),
        _route(auth, "GET", one, handlers.handle_get_session),
        _route(auth, "DELETE", one, handlers.handle_end_session),
        _route(auth, "GET", f"{one}/ready", handlers.handle_session_ready),
        _route(auth, "POST", f"{one}/keepalive", handlers.handle_keepalive),
        _route(auth, "POST", f"{one}/reconnect", handlers.handle_reconnect),
    ]


def _simulator_routes(auth: AuthClient, handlers: SimulatorHandlers) -> Sequence[web.RouteDef]:
    one = "/api/simulators/{simulator_id}"
    return [
        _route(auth, "POST", "/api/simulators", handlers.handle_start_simulator),
        _route(auth, "GET", "/api/simulators", handlers.handle_find_simulator),
        _route(auth, "DELETE", "/api/simulators", handlers.handle_stop_session_simulator),
        _route(auth, "GET", one, handlers.handle_get_simulator),
        _route(auth, "DELETE", one, handlers.handle_stop_simulator),
    ]


def _order_routes(auth: AuthClient, handlers: OrderHandlers) -> Sequence[web.RouteDef]:
    orders = "/api/simulators/{simulator_id}/orders"
    one = f"{orders}/{{order_id}}"
    return [
        _route(auth, "POST", orders, handlers.handle_submit_order),
        _route(auth, "GET", orders, handlers.handle_list_orders),
        _route(auth, "GET", one, handlers.handle_get_order),
        _route(auth, "DELETE", one, handlers.handle_cancel_order),
    ]


def _named_session_routes(auth: AuthClient, handlers: NamedSessionHandlers) -> Sequence[web.RouteDef]:
    # A title takes the rest of the path, with slashes and line breaks.
    path, title = NAMED_SESSIONS_PATH, r"{title:[\s\S]+}"
    return [
        _route(auth, "GET", f"{path}/", by_number(handlers.handle_list_sessions)),
        _route(auth, "POST", f"{path}/", by_number(handlers.handle_create_session)),
        _route(auth, "GET", f"{path}/active", by_number(handlers.handle_get_active_session)),
        _route(auth, "POST", f"{path}/active/{title}", by_number(handlers.handle_set_active_session)),
        _route(auth, "DELETE", f"{path}/{title}", by_number(handlers.handle_delete_session)),
        web.get(path, handle_missing_slash),
        web.post(path, handle_missing_slash),
        web.get(f"{path}/active/", handle_extra_slash),
    ]


def _local_routes(auth: AuthClient, handlers: LocalHandlers) -> Sequence[web.RouteDef]:
    return [_route(auth, "POST", "/api/local/connections/{client_id}/cut", handlers.handle_cut)]


def _sandbox_event_routes(auth: AuthClient, handlers: SandboxEventHandlers) -> Sequence[web.RouteDef]:
    handle = authenticated(auth, with_scope(SCOPE_SANDBOX, handlers.handle_events))
    return [web.get("/api/v1/sandbox-sessions/events", handle, allow_head=False)]


def _sandbox_routes(auth: AuthClient, handlers: SandboxHandlers) -> Sequence[web.RouteDef]:
    def route(method: str, path: str, handler: AuthenticatedHandler) -> web.RouteDef:
        return _route(auth, method, f"/api/v1/sandbox-sessions{path}", with_scope(SCOPE_SANDBOX, handler))

    # Calls beside it are no ids: a method that they do not have is a 405, and no session that is not there.
    one = r"/{session_id:(?!(?:claim|events)$)[^{}/]+}"
    return [
        route("POST", "", handlers.handle_create),
        route("GET", "", handlers.handle_list),
        route("POST", "/claim", handlers.handle_claim),
        route("GET", one, handlers.handle_get),
        route("PATCH", one, handlers.handle_change),
        route("DELETE", one, handlers.handle_delete),
        route("POST", f"{one}/messages", handlers.handle_append),
        route("GET", f"{one}/children", handlers.handle_children),
        route("POST", f"{one}/extend", handlers.handle_extend),
        route("POST", f"{one}/complete", handlers.handle_complete),
        route("POST", f"{one}/fail", handlers.handle_fail),
    ]


def _operation_routes(handlers: HealthHandlers) -> Sequence[web.RouteDef]:
    return [web.get("/health", handlers.handle_health), web.get("/readiness", handlers.handle_readiness)]


def _route(auth: AuthClient, method: str, path: str, handler: AuthenticatedHandler) -> web.RouteDef:
    checked = authenticated(auth, handler)
    return web.get(path, checked) if method == "GET" else web.route(method, path, checked)
