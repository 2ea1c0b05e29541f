"""SVI on any Pyro program: ``fit`` it, ``audit`` its gradients, ``compare`` the traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.audit_report import Audit
    from inference.auditing import audit
    from inference.comparison import Comparison, compare
    from inference.data.columns import Columns, Streamed
    from inference.errors import UserError
    from inference.run import Run
    from inference.svi import fit

__all__ = [
    "Audit",
    "Columns",
    "Comparison",
    "Run",
    "Streamed",
    "UserError",
    "audit",
    "compare",
    "fit",
]

_HOMES = {
    "Audit": "inference.audit_report",
    "Columns": "inference.data.columns",
    "Comparison": "inference.comparison",
    "Run": "inference.run",
    "Streamed": "inference.data.columns",
    "UserError": "inference.errors",
    "audit": "inference.auditing",
    "compare": "inference.comparison",
    "fit": "inference.svi",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``lowerbound --help`` needs no torch."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'inference' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
