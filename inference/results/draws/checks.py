"""Compares draws of a vectorised run with single runs."""

from __future__ import annotations

from torch import Tensor

from inference.estimators.exact import close
from inference.results.draws.joint import Draws
from inference.results.draws.sites import Site


def draw_difference(together: Draws, alone: Draws, k: int) -> str | None:
    """How draw k of a vectorised run differs from a single run; None if it does not."""
    for (side, many), (_, one) in zip(together.sides(), alone.sides(), strict=True):
        if wrong := sorted(many.keys() ^ one.keys()):
            return f"whether there is a site {wrong[0]!r} depends on the draw"
        for name, site in many.items():
            drawn = site.kind == "latent" and side in ("guide", "predicted") and not site.is_delta
            if drawn and site.value is not None and len(site.value) != together.count:
                return f"site {name!r} is drawn once for all draws"
            if not _same_site(site, one[name], k):
                return f"at site {name!r} the program does not treat draws as a leading dimension"
    return None


def _same_site(many: Site, one: Site, k: int) -> bool:
    pairs = ((many.value, one.value), (many.log_prob, one.log_prob), (many.mask, one.mask))
    return all(_same_draw(a, b, k) for a, b in pairs)


def _same_draw(many: Tensor | None, one: Tensor | None, k: int) -> bool:
    if many is None or one is None:
        return many is one
    return close(many[k if len(many) > 1 else 0], one[0])
