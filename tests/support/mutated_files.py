"""The mathematics that ``tests.support.mutations`` spoils, and the fast tests of each part."""

# imported before any test, as every run of the tests would
IMPORTS = (
    "arviz", "lightning_fabric", "matplotlib.pyplot", "pyro.infer.autoguide", "rich",
    "sklearn.datasets", "torch._dynamo", "tyro",
)  # fmt: skip

BOUNDS = "equals_pyro contracts shapes unbiased"
QUICK = "not resumes and not quieter and (not unbiased or ScoreFunction or VIMCO)"

# module → test modules in the folder that mirrors its own, the quick and the sharp first; keywords
ESTIMATORS = {
    "antithetic": ("contracts shapes unbiased", "ARM"),
    "base": ("equals_pyro prior shapes contracts", QUICK),
    "baselines": ("baselines contracts", "not resumes and (baseline or average)"),
    "control_variates": ("control_variates shapes unbiased", "REBAR or RELAX or control"),
    "coupling": (BOUNDS, "IWAE or VIMCO or DReG or bound"),
    "exact": ("exact equals_pyro shapes", "exact or enum"),
    "ledger": ("equals_pyro prior shapes contracts unbiased", QUICK),
    "multi_sample": (BOUNDS, "IWAE or VIMCO or DReG or bound or wake"),
    "pathwise": (BOUNDS, "pathwise or analytic or landing or posterior"),
    "relaxed": ("relaxed contracts shapes unbiased", "relaxed or REBAR or gumbel"),
    "score_function": (BOUNDS, "not resumes and not quieter and (score or leave or variance)"),
    "wake_sleep": ("equals_pyro contracts shapes", "wake"),
    "wrapped": ("equals_pyro contracts shapes", "wrapped"),
}
MODELS = {
    "captioner": ("captioner networks", ""),
    "categorical_vae": ("discrete", "categorical"),
    "decoding": ("decoding", ""),
    "density": ("density", "not fit_finds"),
    "hard_attention": ("networks discrete", ""),
    "language": ("networks nce", ""),
    "likelihoods": ("likelihoods vae", ""),
    "nce": ("nce", ""),
    "networks": ("networks vae discrete", ""),
    "regression": ("regression", ""),
    "sigmoid_belief": ("discrete", "belief or sbn"),
    "skip_gram": ("skip_gram", ""),
    "toys": ("toys", ""),
    "vae": ("vae", ""),
}
PROGRAM = {"objective": ("objective", "")}
FOLDERS = {
    "inference/estimators": ("defaults", ESTIMATORS),
    "ppl_models": ("defaults", MODELS),
    "inference/engine/program": ("", PROGRAM),
}


def arguments(folder: str, always: str, modules: str, keywords: str) -> list[str]:
    """pytest's, for the test modules of a folder, those for all of its modules before."""
    chosen = [f"tests/{folder}/test_{module}.py" for module in f"{always} {modules}".split()]
    return [*chosen, "-k", f"defaults or ({keywords})"] if keywords else chosen


TESTS = {
    f"{folder}/{name}.py": arguments(folder, always, *of_module)
    for folder, (always, modules) in FOLDERS.items()
    for name, of_module in modules.items()
}
