"""Packages that export names without importing them before they are asked for."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def exports(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Makes `__getattr__` and `__dir__` of a package that names its exports for type checkers.

    What stands in the package's block `if TYPE_CHECKING:` is what it exports, so the names are
    written once. The block is read when the first of them is asked for.

    Args:
      package: its `__name__`.

    Returns:
      The two functions.
    """
    found: dict[str, tuple[str, str]] = {}

    def names() -> dict[str, tuple[str, str]]:
        if not found:
            # `ast` and `inspect` would say the same, and take longer than all else at start.
            import _ast

            loader: Any = sys.modules[package].__loader__
            source = loader.get_source(package)
            tree: Any = compile(source, package, "exec", _ast.PyCF_ONLY_AST)
            for block in tree.body:
                if isinstance(block, _ast.If) and isinstance(block.test, _ast.Name):
                    for node in block.body:
                        if isinstance(node, _ast.ImportFrom):
                            for alias in node.names:
                                place = str(node.module), alias.name
                                found[alias.asname or alias.name] = place
        return found

    def __getattr__(name: str) -> object:
        import importlib

        if name.startswith("__") or name not in names():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, attribute = names()[name]
        value: object
        if module == package:
            value = importlib.import_module(f"{module}.{attribute}")
        else:
            value = getattr(importlib.import_module(module), attribute)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names()})

    return __getattr__, __dir__
