"""SVI on any Pyro program: ``fit`` it, ``audit`` its gradients, ``compare`` the traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.data.columns import Columns, Streamed
    from inference.results.run import Run
    from inference.util.errors import UserError
    from inference.workflow.audit import audit
    from inference.workflow.auditing.report import Audit
    from inference.workflow.calibrating.report import Calibration
    from inference.workflow.compare import Comparison, compare
    from inference.workflow.fit import fit
    from inference.workflow.vsbc import vsbc

__all__ = [
    "Audit",
    "Calibration",
    "Columns",
    "Comparison",
    "Run",
    "Streamed",
    "UserError",
    "audit",
    "compare",
    "fit",
    "vsbc",
]

_HOMES = {
    "Audit": "inference.workflow.auditing.report",
    "Calibration": "inference.workflow.calibrating.report",
    "Columns": "inference.data.columns",
    "Comparison": "inference.workflow.compare",
    "Run": "inference.results.run",
    "Streamed": "inference.data.columns",
    "UserError": "inference.util.errors",
    "audit": "inference.workflow.audit",
    "compare": "inference.workflow.compare",
    "fit": "inference.workflow.fit",
    "vsbc": "inference.workflow.vsbc",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``lowerbound --help`` needs no torch."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'inference' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
