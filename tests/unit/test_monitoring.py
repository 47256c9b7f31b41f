"""The example rules and the dashboard are PromQL, ask for metrics and labels that there are, and are documented."""

from __future__ import annotations

import json
import re
from typing import Any

import promql_parser
import pytest
import yaml

from scripts.manifests import K8S, ROOT
from session_service.telemetry.metrics import Metrics

RULES = K8S / "monitoring" / "prometheus-rules.yaml"
DASHBOARD = K8S / "monitoring" / "grafana-dashboard.json"
OF_OTHERS = {"kube_pod_status_ready"}  # kube-state-metrics
OF_PROMETHEUS = {"pod", "instance", "job", "namespace"}  # labels that the scrape adds
OF_A_HISTOGRAM = {"_bucket": {"le"}, "_count": set[str](), "_sum": set[str]()}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> dict[str, str]:
    """Every query, by where it stands. Grafana's own variable is a range like any other."""
    alerts = {rule["alert"]: rule["expr"] for rule in rules()}
    drawn = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "5m")
        for panel in panels()
        for target in panel["targets"]
    }
    return alerts | drawn


def samples() -> dict[str, set[str]]:
    """Every sample name that a pod's /metrics can have, with its labels."""
    metrics = Metrics()
    # The library has no public name for a metric's labels while it has no value yet.
    declared = {name: set(getattr(metric, "_labelnames", ())) for name, metric in vars(metrics).items()}
    known: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = declared.get(name.removeprefix("session_"), set())
        suffixes = OF_A_HISTOGRAM if family.type == "histogram" else {"": set[str]()}
        known |= {name + suffix: labels | more for suffix, more in suffixes.items()}
    return known


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Every selector of the query. Raises ValueError where it is no PromQL."""
    found: list[promql_parser.VectorSelector] = []

    def look(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        elif isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), look)
    return found


@pytest.mark.parametrize("where", expressions())
def test_a_query_asks_for_metrics_and_labels_that_there_are(where: str) -> None:
    known = samples()
    found = selectors(expressions()[where])
    assert found
    for selector in found:
        if selector.name in OF_OTHERS:
            continue
        assert selector.name in known
        asked = {matcher.name for matcher in selector.matchers.matchers}
        assert asked <= known[selector.name] | OF_PROMETHEUS


@pytest.mark.parametrize("where", expressions())
def test_a_query_groups_by_labels_that_its_metrics_have(where: str) -> None:
    known = samples()
    expression = expressions()[where]
    have = {
        label for selector in selectors(expression) for label in known.get(selector.name or "", ())
    } | OF_PROMETHEUS
    groups = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
    assert {label.strip() for group in groups for label in group.split(",")} <= have


def test_every_alert_says_who_is_to_look_and_what_is_seen() -> None:
    assert len(rules()) > 10
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]


def test_every_alert_is_explained_in_the_operations_page_and_no_other() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(Session[A-Za-z]+)`", page, re.MULTILINE)
    assert sorted(explained) == sorted(rule["alert"] for rule in rules())


def test_the_panels_of_the_dashboard_have_their_own_places() -> None:
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels())
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24  # Grafana's grid
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_every_metric_of_the_service_is_on_the_dashboard() -> None:
    drawn = {selector.name or "" for panel in expressions().values() for selector in selectors(panel)}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in samples() if name.startswith("session_")}
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in drawn if name.startswith("session_")}
    assert families <= shown
