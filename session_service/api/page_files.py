"""The built browser page: every file that may be served, read once, each with its compressed forms.

``make browser`` writes it: ``index.html``, ``assets/NAME`` with a hash in each name, and beside a file its ``.br``
and ``.gz`` where they are smaller. What is not in this table when the pod starts cannot be reached by any path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

import msgspec

from session_service.wire.content_coding import IDENTITY

# Best first. The suffix of the file that holds the form.
CODINGS = {"br": ".br", "gzip": ".gz"}
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}


class Representation(msgspec.Struct, frozen=True):
    """One form of a file's content; ``etag`` with its quotes (RFC 9110 §8.8.3)."""

    body: bytes
    etag: str


class PageFile(msgspec.Struct, frozen=True):
    """``representations``: by coding, IDENTITY among them; the best coding first."""

    content_type: str
    representations: Mapping[str, Representation]


class PageFiles(msgspec.Struct, frozen=True):
    """The page that was built. ``assets``: by name, without a folder."""

    index: PageFile
    assets: Mapping[str, PageFile]


def built_page() -> Traversable:
    """Where the page is, once it is built."""
    return files("session_service.api") / "page"


def read_page(directory: Traversable) -> PageFiles | None:
    """The page in ``directory``; None where there is none. Files of a type that a page does not have are left out."""
    index = directory / "index.html"
    if not index.is_file():
        return None
    assets = directory / "assets"
    names = sorted(one.name for one in assets.iterdir() if one.is_file()) if assets.is_dir() else []
    return PageFiles(
        index=_read(directory, index.name),
        assets={name: _read(assets, name) for name in names if _suffix(name) in CONTENT_TYPES},
    )


def _read(directory: Traversable, name: str) -> PageFile:
    forms = {coding: directory / f"{name}{suffix}" for coding, suffix in CODINGS.items()}
    found = {coding: _representation(form.read_bytes()) for coding, form in forms.items() if form.is_file()}
    return PageFile(
        CONTENT_TYPES[_suffix(name)], {**found, IDENTITY: _representation((directory / name).read_bytes())}
    )


def _representation(body: bytes) -> Representation:
    return Representation(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]
