"""Which calls of the Kubernetes API the service's source can make, read from its syntax.

Every call names a ``Resource`` constant of ``clients/kubernetes_types.py``, directly (``client.get(PODS, …)``) or by
handing it to a function or class that takes a parameter ``resource``. A mention that is neither is an error here: the
calls would not be known.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

VERBS = {
    "get": "get",
    "list_page": "list",
    "create": "create",
    "patch": "patch",
    "delete": "delete",
    "watch": "watch",
}
"""Methods of KubernetesClient and the verbs that RBAC has for them."""

PARAMETER = "resource"

Call = tuple[str, str]
"""A resource's constant and a verb."""


def calls(files: Iterable[Path], resources: Iterable[str]) -> set[Call]:
    """Every call of ``files`` to one of ``resources``, the constants' names. ValueError: one is not understood."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    takers = _takers(trees)
    named = frozenset(resources)
    found: set[Call] = set()
    for tree in trees:
        read = 0
        for call in _calls_of(tree):
            for argument in call.args:
                if isinstance(argument, ast.Name) and argument.id in named:
                    verbs = _verbs(call, takers)
                    read += bool(verbs)
                    found |= {(argument.id, verb) for verb in verbs}
        mentions = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in named]
        if len([node for node in mentions if isinstance(node.ctx, ast.Load)]) != read:
            raise ValueError(
                f"a mention of {', '.join(sorted({node.id for node in mentions}))} that is no known call"
            )
    return found


def _takers(trees: Iterable[ast.Module]) -> dict[str, set[str]]:
    """The functions and classes that are handed a resource, with the verbs that they ask of it, also indirectly."""
    definitions: dict[str, ast.AST] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(_takes_resource(each) for each in node.body):
                definitions[node.name] = node
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _takes_resource(node):
                definitions.setdefault(node.name, node)
    takers: dict[str, set[str]] = {name: set() for name in definitions if name not in VERBS and name != "__init__"}
    grew = True
    while grew:
        before = sum(map(len, takers.values()))
        for name, verbs in takers.items():
            for call in _calls_of(definitions[name]):
                if any(_is_the_parameter(argument) for argument in call.args):
                    verbs |= _verbs(call, takers)
        grew = sum(map(len, takers.values())) > before
    return takers


def _takes_resource(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
        argument.arg == PARAMETER for argument in [*node.args.args, *node.args.kwonlyargs]
    )


def _is_the_parameter(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id == PARAMETER) or (
        isinstance(node, ast.Attribute) and node.attr == f"_{PARAMETER}"
    )


def _verbs(call: ast.Call, takers: dict[str, set[str]]) -> set[str]:
    if isinstance(call.func, ast.Attribute):
        return {VERBS[call.func.attr]} if call.func.attr in VERBS else set()
    return takers.get(call.func.id, set()) if isinstance(call.func, ast.Name) else set()


def _calls_of(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))
