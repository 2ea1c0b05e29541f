"""What the catalogue expects beside "equal": cells that are refused, and by which words."""

CLOSED = "belongs to a module that the model or guide function closes over"
VALUE = "needs the value of a tensor"
STATE = "differ under the same noise"

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
        STATE: ("baseline_average",),
        VALUE: (
            "burglar_alarm",
            "change_point",
            "coin_sequential",
            "coin_subsampled_sequential",
            "correlated_slopes",
            "flow_autoregressive",
            "flow_coupling",
            "flow_stack",
            "gamma_poisson",
            "gmm_enumerated",
            "gmm_guide_list",
            "gmm_likelihood",
            "gmm_map",
            "gmm_posterior",
            "hmm_factorial",
            "hmm_map",
            "hmm_minibatch",
            "hmm_mixed",
            "late_parameters",
            "lda_amortised",
            "mixed_noise",
            "sprinkler_enumerated",
            "sprinkler_marginalised",
            "ss_vae_enumerated",
        ),
    },
}

# Cells that are not right yet, and why.
WRONG: dict[tuple[str, str], str] = {}


def refusal(name: str, facet: str) -> str | None:
    """Words of the sentence that refuses a program in a facet; None where it must be equal."""
    sentences = REFUSED.get(facet, {}).items()
    return next((sentence for sentence, names in sentences if name in names), None)
