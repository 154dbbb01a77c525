"""Every kind of figure folder. A module here that declares a `Kind` is listed here by itself."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from mutransfer import results
from mutransfer.errors import known
from mutransfer.results.folder import Kind, read_provenance

_MODULES = [import_module(f"mutransfer.results.{module.name}") for module in iter_modules(results.__path__)]
KINDS: Mapping[str, Kind[Any]] = {
    kind.name: kind for module in _MODULES for kind in vars(module).values() if isinstance(kind, Kind)
}
"""By the name that provenance.json gives."""


def kind_of(folder: Path) -> Kind[Any]:
    """The kind of a figure folder. Raises `UserError` if its provenance.json is missing, malformed or names no kind."""
    provenance = read_provenance(path := folder / "provenance.json")
    name = "search" if "search" in provenance else provenance.get("kind", "sweep")
    return KINDS[known(f"kind of figure in {path}", name, KINDS)]
