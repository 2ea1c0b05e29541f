"""The face of ``inference`` under the name that is installed: ``from lowerbound import fit``."""

from typing import Any

import inference

__all__ = inference.__all__


def __getattr__(name: str) -> Any:
    """A public name of ``inference``, imported when it is first used."""
    return getattr(inference, name)
