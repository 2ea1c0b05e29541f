"""What the catalogue expects beside "equal": cells that are refused, and by which words."""

CLOSED = "belongs to a module that the model or guide function closes over"
VALUE = "needs the value of a tensor"

REFUSED: dict[str, dict[str, tuple[str, ...]]] = {
    "seeds": {
        CLOSED: (
            "baseline_network",
            "closure",
            "gp_regression",
            "gp_regression_priors",
            "gp_variational",
            "lda_amortised",
        ),
    },
    "compile": {
        VALUE: ("coin_subsampled_sequential", "late_parameters"),
    },
}

# Cells that are not right yet, and why.
WRONG: dict[tuple[str, str], str] = {}


def refusal(name: str, facet: str) -> str | None:
    """Words of the sentence that refuses a program in a facet; None where it must be equal."""
    sentences = REFUSED.get(facet, {}).items()
    return next((sentence for sentence, names in sentences if name in names), None)
