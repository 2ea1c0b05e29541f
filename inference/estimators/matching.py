"""Whether model and guide fit together: Pyro's checks, each failure one sentence with a remedy."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

from pyro import util
from pyro.poutine import Trace

from inference.util.errors import UserError
from inference.util.sites import sample_sites

REMEDY = (
    "draw it in the same plates, with the same .to_event(), in both (a guide's latent of each row "
    "stands in the data's plate, too)"
)


def check_model_guide_match(
    model_trace: Trace, guide_trace: Trace, max_plate_nesting: float = math.inf
) -> None:
    """What ``pyro.util.check_model_guide_match`` demands; shapes and names only, no tensor's value.

    Args:
        model_trace, guide_trace: the guide's run, and the model's replayed on it.
        max_plate_nesting: dimensions to the left of so many are not compared.

    Raises:
        UserError: a latent of the model is not in the guide; the two differ in a site's shape or
            event dimensions; a ``pyro.factor`` of the guide does not say ``has_rsample``.

    Warns:
        UserWarning: the guide has a site or plate that the model lacks.
    """
    drawn = sample_sites(guide_trace)
    for name, site in sample_sites(model_trace).items():
        enumerated = site["infer"].get("_enumerate_dim") is not None
        if not site["is_observed"] and not enumerated and name not in drawn:
            raise UserError(f"latent site {name!r} of the model is not in the guide: draw it there")
    with user_errors():
        util.check_model_guide_match(model_trace, guide_trace, max_plate_nesting)


def check_site_shapes(trace: Trace, max_plate_nesting: float = math.inf) -> None:
    """``pyro.util.check_site_shape`` for every site of a trace with log-probabilities.

    Raises:
        UserError: a site's batch shape is not that of the plates around it.
    """
    with user_errors():
        for site in sample_sites(trace).values():
            util.check_site_shape(site, max_plate_nesting)  # type: ignore[arg-type]


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns a ``ValueError`` of Pyro's checks, often of many lines, into a ``UserError``."""
    try:
        yield
    except ValueError as error:
        sentence = re.sub(r"torch\.Size\((.*?)\)", r"\1", " ".join(str(error).split()))
        remedy = f": {REMEDY}" if "disagree at site" in sentence else ""
        raise UserError(sentence + remedy) from error
