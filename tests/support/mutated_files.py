"""The mathematics that ``tests.support.mutations`` spoils, and the fast tests of each part."""

# imported before any test, as every run of the tests would
IMPORTS = (
    "arviz", "lightning_fabric", "matplotlib.pyplot", "pyro.infer.autoguide", "rich",
    "sklearn.datasets", "torch._dynamo", "tyro",
)  # fmt: skip

REST = "contracts shapes unbiased"
QUICK = "not resumes and not quieter and not mixture and (not unbiased or ScoreFunction or VIMCO)"
WEIGHTS = "not mixture and (IWAE or VIMCO or DReG or bound or wake or multi_sample or coupling)"
SCORE = "not resumes and not quieter and (score or leave or variance or neural)"

# module → (test modules in the folder that mirrors its own: sharp ones; all others; keywords)
ESTIMATORS = {
    "antithetic": ("antithetic", REST, "ARM or antithetic"),
    "base": ("equals_pyro prior", REST, QUICK),
    "baselines": ("baselines", "contracts", "not resumes and (baseline or average)"),
    "control_variates": ("control_variates", "shapes unbiased", "REBAR or RELAX or control"),
    "coupling": ("coupling multi_sample", REST, WEIGHTS),
    "exact": ("exact equals_pyro", "shapes", "exact or enum"),
    "ledger": ("equals_pyro prior", REST, QUICK),
    "multi_sample": ("equals_pyro multi_sample", REST, WEIGHTS),
    "pathwise": ("pathwise", REST, "pathwise or analytic or landing or posterior"),
    "relaxed": ("relaxed control_variates", REST, "relaxed or REBAR or gumbel"),
    "score_function": ("score_function", f"equals_pyro {REST}", SCORE),
    "wake_sleep": ("wake_sleep equals_pyro", "contracts shapes", "wake"),
    "wrapped": ("equals_pyro", "contracts shapes", "wrapped"),
}
MODELS = {
    "captioner": ("networks captioner", "", ""),
    "categorical_vae": ("discrete", "", "categorical and not vectorised"),
    "convolution": ("convolution", "deconvolutional", ""),
    "decoding": ("decoding", "", ""),
    "deconvolutional": ("deconvolutional", "", ""),
    "density": ("density", "", "not fit_finds"),
    "glimpse_networks": ("glimpses", "", ""),
    "glimpses": ("glimpses", "", ""),
    "hard_attention": ("networks", "discrete", ""),
    "inverse_gaussian": ("inverse_gaussian", "support_vector", ""),
    "language": ("networks", "nce", ""),
    "likelihoods": ("likelihoods", "vae", ""),
    "nce": ("nce", "", ""),
    "networks": ("networks", "vae discrete", ""),
    "places": ("glimpses", "retina", ""),
    "regression": ("regression", "", ""),
    "retina": ("retina", "glimpses", ""),
    "sigmoid_belief": ("discrete", "", "(belief or sbn) and not vectorised"),
    "semi_supervised": ("semi_supervised", "", ""),
    "skip_gram": ("skip_gram", "", "not places_of and not one_draw"),
    "support_vector": ("support_vector", "", ""),
    "toys": ("toys", "", ""),
    "unpooling": ("convolution", "deconvolutional", ""),
    "vae": ("vae", "", ""),
}
PROGRAM = {"objective": ("objective", "caches", ""), "terms": ("terms", "", "")}
CAPTURED, TOGETHER = "inference/engine/capture/captured", "inference/engine/training/all_seeds"
GRADIENT = {
    "all_seeds": (TOGETHER, "", ""),
    "averaged": ("averaged", "", ""),
    "captured": (CAPTURED, TOGETHER, ""),
    "plain": ("averaged plain", "", ""),
}
WORKFLOW = {
    "audit": ("audit", "random_programs", "not two_hundred"),
    "moments": ("moments", "audit", ""),
    "verdicts": ("verdicts", "audit", ""),
    "bias": ("bias", "audit", ""),
    "rare": ("rare", "audit", ""),
}
ENGINE = {"processes": ("averages", "", "")}
RESULTS = {"evaluate": ("evaluate posterior", "", "not groups and not arviz")}
ANY, PROOF = "inference/results/any_program", "inference/results/posterior programs/catalogue"
DRAWS = {
    name: (ANY, PROOF, "not (ELBO or SGD or audit or compile or resume or seeds)")
    for name in ("assignments", "joint", "marginals", "rows", "sampler", "sites")
}
# path → the functions of it that are mathematics, where others are not
ONLY = {"inference/engine/processes.py": {"average", "part", "agreed", "in_form_of"}}
FOLDERS = {
    "inference/estimators": ("defaults", ESTIMATORS),
    "ppl_models": ("defaults", MODELS),
    "inference/engine/program": ("", PROGRAM),
    "inference/engine/gradient": ("", GRADIENT),
    "inference/engine": ("", ENGINE),
    "inference/results": ("", RESULTS),
    "inference/results/draws": ("", DRAWS),
    "inference/workflow": ("", WORKFLOW),
}


def runs(folder: str, modules: str, keywords: str) -> list[list[str]]:
    """pytest's arguments, one run a test module: the first that fails spares the others.

    A module of another folder is given by its path.
    """
    chosen = ["-k", f"defaults or ({keywords})"] if keywords else []
    paths = [m if "/" in m else f"{folder}/{m}" for m in modules.split()]
    parts = [path.rpartition("/") for path in paths]
    return [[f"tests/{home}/test_{module}.py", *chosen] for home, _, module in parts]


# path → the runs of its sharp tests, and those of the others
TESTS = {
    f"{folder}/{name}.py": (
        runs(folder, f"{always} {sharp}", keywords),
        runs(folder, others, keywords),
    )
    for folder, (always, modules) in FOLDERS.items()
    for name, (sharp, others, keywords) in modules.items()
}
