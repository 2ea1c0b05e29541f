"""Scores of captions: by hand, against coco-caption's own sums, and the errors of means."""

import math
import sys

import numpy as np
import pytest

from inference.recipes.captions.report.scores import SCORE_NAMES, caption_scores
from inference.util.errors import UserError

TRUTH = [
    ["a dog runs on the grass", "the brown dog is running"],
    ["two children play in the snow", "kids in snow with a red sled"],
    ["a man rides a bike down a hill", "the cyclist goes down the hill"],
]
SAID = ["a dog is on the grass", "two kids play in the red snow", "a man rides a bike"]


def words(captions):
    return [caption.split() for caption in captions]


def scored(said, truth, **options):
    return caption_scores(words(said), [words(one) for one in truth], **options)


def test_bleu_by_hand():
    """Three of four words match, one of three pairs, no triple; five words would have been due."""
    corpus = scored(["the cat the mat"], [["the cat on a mat"]], draws=10).corpus
    brevity = math.exp(1 - 5 / 4)
    assert corpus["BLEU-1"].value == pytest.approx(100 * brevity * 3 / 4)
    assert corpus["BLEU-2"].value == pytest.approx(100 * brevity * math.sqrt(3 / 4 * 1 / 3))
    assert corpus["BLEU-3"].value == pytest.approx(0, abs=1e-2)


def test_bleu_sums_counts_over_pictures_before_it_divides():
    corpus = scored(["a b", "c d e f"], [["a b"], ["c x e y"]], draws=10).corpus
    assert corpus["BLEU-1"].value == pytest.approx(100 * (2 + 2) / (2 + 4))
    assert corpus["BLEU-2"].value == pytest.approx(100 * math.sqrt(4 / 6 * 1 / 4))


def test_the_reference_of_the_closest_length_is_due():
    corpus = scored(["a b c"], [["a b c d e f", "x y", "u v w x"]], draws=10).corpus
    assert corpus["BLEU-1"].value == pytest.approx(100)  # 2 and 4 are as close: the shorter


def test_all_scores_are_those_of_coco_caption(capsys):
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    bleu = BleuScorer(n=4)
    for said, truth in zip(SAID, TRUTH, strict=True):
        bleu += (said, truth)
    truth, said = dict(enumerate(TRUTH)), {i: [s] for i, s in enumerate(SAID)}
    others = [scorer.compute_score(truth, said)[0] for scorer in (Rouge(), Cider())]
    exact = dict(zip(SCORE_NAMES, [*bleu.compute_score("closest")[0], *others], strict=True))
    capsys.readouterr()
    found = scored(SAID, TRUTH).corpus
    assert capsys.readouterr().out == ""
    for name in SCORE_NAMES:
        assert found[name].value == pytest.approx(100 * exact[name], rel=1e-9), name


def test_captions_equal_to_their_only_references_get_all():
    said = ["a dog runs on grass", "two children play in snow", "a man rides his bike"]
    corpus = scored(said, [[caption] for caption in said]).corpus
    for name in SCORE_NAMES:
        assert corpus[name].value == pytest.approx(1000 if name == "CIDEr" else 100)
        assert corpus[name].error == pytest.approx(0, abs=1e-5)


def test_captions_of_other_pictures_score_lower():
    right = scored([one[0] for one in TRUTH], TRUTH)
    shuffled = scored([one[0] for one in TRUTH[1:] + TRUTH[:1]], TRUTH)
    for name in SCORE_NAMES:
        assert right.corpus[name].value > shuffled.corpus[name].value
    assert (right.each["CIDEr"] > shuffled.each["CIDEr"]).all()


def test_standard_errors():
    """Of a mean: s / √N.  Of BLEU-1 without brevity and equal lengths: the same, of precisions."""
    rng = np.random.default_rng(0)
    said = [" ".join(rng.choice(list("abcdefgh"), 8)) for _ in range(100)]
    truth = [[" ".join(rng.choice(list("abcdefgh"), 8))] for _ in range(100)]
    found = scored(said, truth, draws=20_000)
    right = [
        sum(min(s.count(w), t[0].count(w)) for w in "abcdefgh") / 8
        for s, t in zip(said, truth, strict=True)
    ]
    exact = {**found.each, "BLEU-1": 100 * np.array(right)}
    for name in ("BLEU-1", "ROUGE-L", "CIDEr"):
        assert found.corpus[name].value == pytest.approx(exact[name].mean())
        # a standard deviation of 20,000 draws is 0.5 % uncertain; s has N − 1, the bootstrap N
        assert found.corpus[name].error == pytest.approx(exact[name].std() / 10, rel=0.02), name
    again = scored(said, truth, draws=20_000)
    assert again.corpus == found.corpus


def test_a_caption_without_words_counts_nothing():
    corpus = scored(["", SAID[1], SAID[2]], TRUTH)
    assert corpus.each["CIDEr"][0] == corpus.each["ROUGE-L"][0] == 0
    assert all(math.isfinite(figure.value) for figure in corpus.corpus.values())


@pytest.mark.parametrize(
    ("said", "truth", "sentence"),
    [
        ([], [], "no captions to score"),
        (SAID[:2], TRUTH, "2 captions cannot be scored against references of 3 pictures"),
        (SAID, [*TRUTH[:2], []], "picture 2 has no reference caption"),
    ],
)
def test_what_cannot_be_scored_is_refused(said, truth, sentence):
    with pytest.raises(UserError, match=sentence):
        scored(said, truth)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    for module in [name for name in sys.modules if name.startswith("pycocoevalcap.")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(UserError, match=r"lowerbound\[captions\]"):
        scored(SAID, TRUTH)
