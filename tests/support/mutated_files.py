"""The mathematics that ``tests.support.mutations`` spoils, and the fast tests of each part."""

# imported before any test, as every run of the tests would
IMPORTS = (
    "arviz", "lightning_fabric", "matplotlib.pyplot", "pyro.infer.autoguide", "rich",
    "sklearn.datasets", "torch._dynamo", "tyro",
)  # fmt: skip

_HERE = "tests/inference/estimators/test_"
_PYRO, _EXACT = f"{_HERE}equals_pyro.py", f"{_HERE}exact.py"
_CONTRACTS, _PRIOR = f"{_HERE}contracts.py", f"{_HERE}prior.py"
_SHAPES, _UNBIASED = f"{_HERE}shapes.py", f"{_HERE}unbiased.py"
_BOUNDS = f"{_PYRO} {_CONTRACTS} {_SHAPES} {_UNBIASED}"

# beginning of a path → pytest's arguments: the quick and the sharp first
TESTS = {
    "inference/estimators/antithetic.py": f"{_CONTRACTS} {_SHAPES} {_UNBIASED} -k 'ARM'",
    "inference/estimators/base.py": f"{_PYRO} {_PRIOR} {_SHAPES} {_CONTRACTS}",
    "inference/estimators/baselines.py": f"{_HERE}baselines.py {_CONTRACTS} "
    "-k 'baseline or average or guess or network'",
    "inference/estimators/control_variates.py": f"{_HERE}control_variates.py {_SHAPES} {_UNBIASED} "
    "-k 'REBAR or RELAX or control'",
    "inference/estimators/coupling.py": f"{_BOUNDS} -k 'IWAE or VIMCO or DReG or bound'",
    "inference/estimators/exact.py": f"{_EXACT} {_PYRO} {_SHAPES} -k 'exact or enum'",
    "inference/estimators/ledger.py": f"{_PYRO} {_PRIOR} {_SHAPES} {_CONTRACTS} {_UNBIASED}",
    "inference/estimators/multi_sample.py": f"{_BOUNDS} "
    "-k 'IWAE or VIMCO or DReG or bound or wake'",
    "inference/estimators/pathwise.py": f"{_BOUNDS} "
    "-k 'pathwise or analytic or landing or posterior'",
    "inference/estimators/relaxed.py": f"{_HERE}relaxed.py {_CONTRACTS} {_SHAPES} {_UNBIASED} "
    "-k 'relaxed or REBAR or gumbel'",
    "inference/estimators/score_function.py": f"{_PYRO} {_CONTRACTS} {_SHAPES} {_UNBIASED} "
    "-k 'score or leave or variance or normalis'",
    "inference/estimators/wake_sleep.py": f"{_PYRO} {_CONTRACTS} {_SHAPES} -k 'wake'",
    "inference/estimators/wrapped.py": f"{_PYRO} {_CONTRACTS} {_SHAPES} -k 'wrapped'",
    "ppl_models/captioner.py": "tests/ppl_models/test_captioner.py",
    "ppl_models/categorical_vae.py": "tests/ppl_models/test_discrete.py -k 'categorical'",
    "ppl_models/decoding.py": "tests/ppl_models/test_decoding.py",
    "ppl_models/density.py": "tests/ppl_models/test_density.py -k 'not fit_finds'",
    "ppl_models/hard_attention.py": "tests/ppl_models/test_discrete.py",
    "ppl_models/language.py": "tests/inference/engine/test_optim.py tests/ppl_models/test_nce.py",
    "ppl_models/likelihoods.py": "tests/ppl_models/test_vae.py",
    "ppl_models/nce.py": "tests/ppl_models/test_nce.py",
    "ppl_models/networks.py": "tests/ppl_models/test_vae.py tests/ppl_models/test_discrete.py",
    "ppl_models/regression.py": "tests/ppl_models/test_regression.py",
    "ppl_models/sigmoid_belief.py": "tests/ppl_models/test_discrete.py -k 'belief or sbn'",
    "ppl_models/skip_gram.py": "tests/ppl_models/test_skip_gram.py",
    "ppl_models/toys.py": "tests/inference/workflow/test_audit.py",
    "ppl_models/vae.py": "tests/ppl_models/test_vae.py",
    "inference/engine/program/objective.py": "tests/inference/engine/program/test_objective.py",
}
