"""The report of trained rationales: scores against people's marks, accuracies, bounds, a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.data.columns import Columns, slices
from inference.data.vocabulary import Vocabulary
from inference.engine.program.program import Program
from inference.engine.training.validation import EVALUATION_SEED
from inference.recipes.contract import Figures
from inference.recipes.rationales.data.columns import columns
from inference.recipes.rationales.data.documents import Document, Texts, units
from inference.recipes.rationales.options import RationalesOptions as Options
from inference.recipes.rationales.problem import Model
from inference.recipes.rationales.report import pictures, scores
from inference.recipes.rationales.report.judged import Judged
from inference.recipes.rationales.report.page import page
from inference.recipes.rationales.report.predictions import Answer, answer, as_bound, said_of
from inference.results import evaluate
from inference.results.report import Estimate, over_seeds
from inference.results.run import Run
from inference.util import rng
from inference.util.files import write_json

AT_ONCE = 32  # texts
RATES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
REPORTED = (0.1, 0.3, 0.5)
ERASED = 0.3  # rate of sufficiency and comprehensiveness


def report(run: Run, options: Options, texts: Texts, vocabulary: Vocabulary) -> Figures:
    """Figures on the judged texts, the mean over seeds; a page and a picture of the first."""
    longest, draws = 1 if options.unit == "word" else options.longest, options.test_samples
    documents = texts.test if options.judge == "test" else texts.valid
    data = run.place(columns(documents, vocabulary, texts.labels, longest))
    judged = [judge(program, data, documents, longest, draws) for program in run.programs]
    figures = over_seeds(
        [
            {**of_marks(j), **of_labels(program, j), **bounds(program, data, draws)}
            for program, j in zip(run.programs, judged, strict=True)
        ]
    )
    figures |= trivial(judged[0])
    if run.directory is not None:
        write_json(run.directory / "vocabulary.json", vocabulary.words)
        write_json(run.directory / "labels.json", texts.labels)
        curve = curves(run.programs[0], judged[0])
        pictures.curves(curve, run.directory / "rates.png")
        page(run.directory / "rationales.html", judged[0], texts.labels, figures)
    return figures


def judge(
    program: Program, data: Columns, documents: Sequence[Document], longest: int, draws: int
) -> Judged:
    """What a trained program keeps of the texts, and says of them."""
    model, parts = rationales(program), []
    with rng.forked(EVALUATION_SEED), program.scope(), program.evaluation(), torch.no_grad():
        for rows in slices(len(data), AT_ONCE):
            parts.append(answer(model, data.tensors["x"][rows], draws))
    found = Answer(*(torch.cat(some) for some in zip(*parts, strict=True)))
    return Judged(documents, longest, data.tensors["y"], found)


def rationales(program: Program) -> Model:
    """The model of the program."""
    model: Any = program.model
    return model


def of_marks(judged: Judged) -> dict[str, Any]:
    """Agreement with people's marks, where there are any."""
    truth = judged.truth()
    if not any(t.any() for t in truth):
        return {}
    likely = judged.over_words((judged.answer.scores > 0.5).cpu().numpy())
    found = {
        "average precision": scores.average_precision(judged.scores(), truth),
        "word F1 of the most likely mask": scores.word_f1(likely, truth),
    }
    for rate in REPORTED:
        kept = judged.over_words(judged.kept(rate))
        found[f"word F1 at {rate:.0%}"] = scores.word_f1(kept, truth)
        found[f"span F1 at {rate:.0%}"] = scores.span_f1(kept, truth)
    return {name: scores.mean(values) for name, values in found.items()}


def of_labels(program: Program, judged: Judged) -> dict[str, Any]:
    """Accuracies, sufficiency and comprehensiveness."""
    whole = said(program, judged, judged.answer.valid)
    found = {
        "accuracy, drawn masks": right(judged.answer.averaged, judged.y),
        "accuracy, everything kept": right(whole, judged.y),
        "units kept, drawn masks": judged.answer.rate,
    }
    for rate in REPORTED:
        alone = said(program, judged, torch.from_numpy(judged.kept(rate)))
        found[f"accuracy at {rate:.0%}"] = right(alone, judged.y)
    kept = torch.from_numpy(judged.kept(ERASED)).to(whole.device)
    most = whole.argmax(-1, keepdim=True)
    for name, mask in {"sufficiency": kept, "comprehensiveness": ~kept}.items():
        lost = whole.gather(-1, most) - said(program, judged, mask).gather(-1, most)
        found[f"{name} at {ERASED:.0%}"] = lost.squeeze(-1)
    return {name: Estimate.of(values) for name, values in found.items()}


def right(probabilities: Tensor, y: Tensor) -> Tensor:
    """(N,) 1 where the most probable class is y."""
    return (probabilities.argmax(-1) == y).double()


def said(program: Program, judged: Judged, masks: Tensor) -> Tensor:
    """p(y | z, x) (N, classes) for masks (N, T)."""
    model, parts, found = rationales(program), [], judged.answer
    masks = masks.to(found.valid.device)
    with program.scope(), program.evaluation(), torch.no_grad():
        for rows in slices(len(masks), AT_ONCE):
            parts.append(said_of(model, found.units[rows], found.valid[rows], masks[rows]))
    return torch.cat(parts)


def bounds(program: Program, data: Columns, draws: int) -> dict[str, Any]:
    """The ELBO and L_K, nats a text, at weight 1 and without the constraint."""
    with as_bound(rationales(program)):
        return {
            name: Estimate.of(evaluate.importance_weighted_bound(program, data, count))
            for name, count in {"bound, ELBO": 1, f"bound, L_{draws}": draws}.items()
        }


def trivial(judged: Judged) -> Figures:
    """Agreement with people's marks of selections that nobody learned."""
    truth, generator = judged.truth(), np.random.default_rng(0)
    if not any(t.any() for t in truth):
        return {}
    figures: Figures = {}
    for name, score in scores.TRIVIAL.items():
        rows = [score(len(units(d, judged.longest)), generator) for d in judged.documents]
        for rate in REPORTED:
            kept = judged.over_words(judged.kept(rate, rows))
            figures[f"(word F1 of {rate:.0%} {name})"] = scores.mean(scores.word_f1(kept, truth))
    everything = [np.ones(len(t), dtype=bool) for t in truth]
    figures["(word F1 of everything)"] = scores.mean(scores.word_f1(everything, truth))
    chance = [generator.random(len(t)) for t in truth]
    figures["(average precision of chance)"] = scores.mean(scores.average_precision(chance, truth))
    return figures


def curves(program: Program, judged: Judged) -> dict[str, list[float]]:
    """Accuracy and word F1 at each of ``RATES``; F1 of random masks beside it."""
    truth, generator = judged.truth(), np.random.default_rng(0)
    chance = [generator.random(len(units(d, judged.longest))) for d in judged.documents]
    found: dict[str, list[float]] = {"rate": list(RATES), "accuracy": [], "F1": [], "random F1": []}
    for rate in RATES:
        masks = judged.kept(rate)
        alone = said(program, judged, torch.from_numpy(masks))
        found["accuracy"].append(float(right(alone, judged.y).mean()))
        random = judged.over_words(judged.kept(rate, chance))
        for name, kept in {"F1": judged.over_words(masks), "random F1": random}.items():
            found[name].append(scores.mean(scores.word_f1(kept, truth)).value)
    return found
