"""What was chosen for a fit, by how much, how sure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def said(decision: Mapping[str, Any]) -> str:
    """A sentence; see ``inference.workflow.choosing.choice.decide``."""
    chosen, incumbent = decision["chosen"], decision["incumbent"]
    if not decision["efforts"]:
        return f"estimator {chosen}: no other takes the program"
    after = f"after {decision['steps']} steps, by {decision['evaluations']} model evaluations"
    raced = f"{len(decision['efforts'])} estimators"
    if chosen == incumbent:
        return f"estimator {chosen}, chosen of {raced} {after}: none saves 20 % beyond doubt"
    value, low, high = decision["ratio"]
    return (
        f"estimator {chosen}, chosen of {raced} {after}: its E‖g‖² × evaluations is {value:.2f} "
        f"({low:.2f} to {high:.2f}, 99 %) of {incumbent}'s"
    )
