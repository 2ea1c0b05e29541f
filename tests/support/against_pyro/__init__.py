"""Seven questions to a program of the catalogue, each answered by Pyro's own slow way.

A facet is a function of one program: it returns if ours equals Pyro's, lets the ``UserError`` of a
refusal through, and fails with an ``AssertionError`` otherwise.
"""

from tests.support.against_pyro.audited import audit_reference
from tests.support.against_pyro.posterior import posterior
from tests.support.against_pyro.trained import compiled, elbo, resumed, sgd, two_seeds

FACETS = {
    "ELBO": elbo,
    "SGD": sgd,
    "posterior": posterior,
    "audit": audit_reference,
    "compile": compiled,
    "resume": resumed,
    "seeds": two_seeds,
}

__all__ = ["FACETS"]
