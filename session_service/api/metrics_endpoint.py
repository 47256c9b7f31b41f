"""``GET /metrics`` in Prometheus' text format, on the pod's own port or on METRICS_PORT alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from session_service.telemetry.metrics import Metrics


def metrics_handler(metrics: Metrics) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle_metrics(request: web.Request) -> web.Response:
        body, content_type = metrics.render()
        return web.Response(body=body, headers={"Content-Type": content_type})

    return handle_metrics


def build_metrics_app(metrics: Metrics) -> web.Application:
    """The application of METRICS_PORT: ``GET /metrics`` and nothing else."""
    app = web.Application()
    app.router.add_get("/metrics", metrics_handler(metrics))
    return app
