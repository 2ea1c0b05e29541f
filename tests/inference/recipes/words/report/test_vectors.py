"""Vectors of words: kept bit for bit, asked, examined as gensim does, drawn to be read."""

import gzip
import itertools
import json
import sys

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors
from matplotlib.figure import Figure

from inference import UserError
from inference.data.libraries import gensim_file
from inference.recipes.words.neighbours import neighbours
from inference.recipes.words.report import pictures
from inference.recipes.words.report.examinations import (
    JUDGEMENTS,
    Judged,
    analogies,
    examine,
    judgements,
)
from inference.recipes.words.report.vectors import keyed_vectors, load_vectors, save_vectors
from inference.results.report import Estimate, plain

WORDS = ("the", "cat", "café", "don't", "42")


def random_vectors(words, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return keyed_vectors(list(words), torch.randn(len(words), width, generator=generator))


@pytest.mark.parametrize("name", ["v.txt", "v.vec", "v.bin", "v.txt.gz", "v.vec.gz", "v.bin.gz"])
def test_files_keep_every_bit_and_are_those_of_word2vec(tmp_path, name):
    vectors = random_vectors(WORDS)
    save_vectors(vectors, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    found = load_vectors(tmp_path / name)
    theirs = KeyedVectors.load_word2vec_format(str(tmp_path / name), binary=".bin" in name)
    for one in (found, theirs):
        assert one.index_to_key == list(WORDS)
        assert (one.vectors == vectors.vectors).all()
    opened = (gzip.open if name.endswith("gz") else open)(tmp_path / name, "rb")
    with opened as file:
        assert file.readline() == b"5 6\n"
        line = file.readline()
    assert line.startswith(b"the ")
    assert (len(line.split()) == 7) == (".bin" not in name)


def test_counts_are_kept_in_memory_and_order_the_words():
    vectors = keyed_vectors(["the", "cat"], torch.eye(2), torch.tensor([7, 2]))
    assert [vectors.get_vecattr(word, "count") for word in ("the", "cat")] == [7, 2]


@pytest.mark.parametrize("name", ["high_precision.kv.txt", "crime-and-punishment.vec"])
def test_other_peoples_text_is_read(name):
    theirs = KeyedVectors.load_word2vec_format(str(gensim_file(name)))
    found = load_vectors(gensim_file(name))
    assert found.index_to_key == theirs.index_to_key
    assert (found.vectors == theirs.vectors).all()


def test_other_peoples_binary_is_read():
    found = load_vectors(gensim_file("euclidean_vectors.bin"))
    assert found.vectors.shape == (len(found), found.vector_size)
    assert neighbours(found, found.index_to_key[0], 1)[0][1] <= 1


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("wide.txt", b"2 2\na 1 2\nb 1 2 3\n", "line 3: 3 numbers after 'b', but line 1 says 2"),
        ("short.txt", b"2 2\na 1 2\nb 1\n", "line 3: 1 numbers after 'b', but line 1 says 2"),
        ("cut.txt", b"3 2\na 1 2\nb 1 2\n", "holds 2 vectors, but line 1 says 3: it was cut"),
        ("more.txt", b"1 2\na 1 2\nb 1 2\n", "holds 2 vectors, but line 1 says 1"),
        ("twice.txt", b"2 2\na 1 2\na 1 2\n", "line 3: 'a' is in line 2, too: drop one"),
        ("letters.txt", b"2 2\na 1 2\nb 1 x\n", "line 3: .*'x': give 2 numbers after 'b'"),
        ("nan.txt", b"2 2\na 1 2\nb 1 nan\n", "line 3: the vector of 'b' is not finite"),
        ("glove.txt", b"a 1 2\nb 1 2\n", "line 1: word2vec's format begins with the numbers of"),
        ("none.txt", b"", "line 1: word2vec's format begins with the numbers of words"),
        ("zero.txt", b"0 2\n", "line 1: word2vec's format begins with the numbers of words"),
        ("plain.gz", b"1 2\na 1 2\n", r"plain.gz: name vectors .txt, .vec"),
        ("picture.bin", b"\x89PNG\r\n\x1a\n\0\0", "line 1: word2vec's format begins with"),
        ("cut.bin", b"2 2\na 12345678b 123456", "cut.bin cannot be read .* write it again"),
        (
            "huge.bin",
            b"9999999999999 300\na 1",
            "huge.bin is cut short: 9999999999999 vectors of 300",
        ),
        ("twice.bin", b"2 2\na 12345678a 12345678", "1 different words, but says 2: some are re"),
        ("nan.bin", b"1 1\na \xff\xff\xff\x7f", "nan.bin holds vectors that are not finite"),
        (
            "huge.bin.gz",
            gzip.compress(b"9999999999999 300\na", mtime=0),
            "huge.bin.gz is cut short: 9999999999999 vectors",
        ),
        ("cut.bin.gz", gzip.compress(b"1 2\na 12345678", mtime=0)[:-9], "cut.bin.gz"),
    ],
)
def test_mistakes_in_a_file(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence) as told:
        load_vectors(tmp_path / name)
    assert name in str(told.value)


def test_others_words_that_are_not_utf8_are_words(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"2 2\ncaf\xe9 1 2\ncaf\xe8 1 3\n")
    (tmp_path / "a.bin").write_bytes(b"2 1\ncaf\xe9 1234\ncaf\xe8 5678\n")
    for name in ("a.txt", "a.bin"):
        assert load_vectors(tmp_path / name).index_to_key == [r"caf\xe9", r"caf\xe8"]


def test_a_gzipped_name_of_a_plain_file_is_read(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(b"1 2\na 1 2\n")
    assert load_vectors(tmp_path / "a.txt.gz").index_to_key == ["a"]


def test_other_mistakes(tmp_path, monkeypatch):
    for path, name in ((tmp_path / "gone.txt", "gone.txt"), (tmp_path, "vectors.txt")):
        with pytest.raises(
            UserError, match=rf"no vectors .*{name}: give a run that learnt vectors"
        ):
            load_vectors(path)
    with pytest.raises(UserError, match=r"v.npy: name vectors .txt, .vec \(text\) or .bin"):
        save_vectors(random_vectors(WORDS), tmp_path / "v.npy")
    for words, vectors, sentence in (
        (["a", "b"], torch.ones(3, 2), r"2 words, but vectors of shape \(3, 2\)"),
        ([], torch.ones(0, 2), "0 words"),
        (["a", "a"], torch.ones(2, 2), "the word 'a' is repeated"),
        (["a", "b c"], torch.ones(2, 2), "the word 'b c' is repeated or holds blanks"),
        (["a", "b"], torch.tensor([[1.0], [torch.inf]]), "the vector of 'b' is not finite"),
    ):
        with pytest.raises(UserError, match=sentence):
            keyed_vectors(words, vectors)
    monkeypatch.setitem(sys.modules, "gensim.models.keyedvectors", None)
    with pytest.raises(UserError, match=r"need the extra: pip install 'lowerbound\[words\]'"):
        keyed_vectors(["a"], torch.ones(1, 2))


@pytest.fixture
def plane():
    """Words at angles, in degrees, of the plane, of different lengths; one at its origin."""
    angles = {"east": 0, "near": 10, "north": 90, "west": 180, "south": 270}
    at = torch.tensor(list(angles.values())).deg2rad()
    lengths = torch.tensor([1.0, 5.0, 2.0, 0.5, 3.0])[:, None]
    rows = lengths * torch.stack([at.cos(), at.sin()], 1)
    return keyed_vectors([*angles, "nothing"], torch.cat([rows, torch.zeros(1, 2)]))


def test_neighbours_have_the_cosines_of_the_angles(plane):
    found = neighbours(plane, "east")
    assert (found[0][0], found[-1][0]) == ("near", "west")
    expected = {"near": np.cos(np.pi / 18), "north": 0, "nothing": 0, "south": 0, "west": -1}
    assert dict(found) == pytest.approx(expected, abs=1e-6)
    assert neighbours(plane, "East", 1) == found[:1]


def test_neighbours_of_a_sum_are_those_of_unit_vectors(plane):
    between = 180 / np.pi * np.arctan2(np.sin(np.pi / 18) + 1, np.cos(np.pi / 18))
    for query in ("near + north", "near north", "near - south"):
        best = dict(neighbours(plane, query, 5))
        assert not set(query.split()) & set(best)
        assert best["east"] == pytest.approx(np.cos(between * np.pi / 180), abs=1e-6)


def test_an_unknown_word_is_answered_with_others_spelt_like_it(plane):
    with pytest.raises(UserError, match=r"no vector for 'nort' among 6 words: did you mean north"):
        neighbours(plane, "nort")
    with pytest.raises(UserError, match="no vector for 'zzz' among 6 words: give another word"):
        neighbours(plane, "east - zzz")
    with pytest.raises(UserError, match="' - ' holds no word"):
        neighbours(plane, " - ")


def questions():
    """Section, and its questions in lower case."""
    sections = {}
    for line in gensim_file("questions-words.txt").read_text().splitlines():
        if line.startswith(":"):
            rows = sections.setdefault(line[2:], [])
        else:
            rows.append(line.lower().split())
    return sections


def test_analogies_are_answered_by_the_nearest_to_the_sum():
    sections = questions()
    words = sorted(set(itertools.chain.from_iterable(sections["family"])))[:24]
    words += ["athens", "greece", "oslo", "norway", "rome", "italy", "cat", "dog"]
    generator = torch.Generator().manual_seed(0)
    capital, pairs = torch.randn(12, generator=generator), torch.randn(3, 12, generator=generator)
    rows = torch.randn(len(words), 12, generator=generator)
    rows[24:30:2], rows[25:31:2] = pairs + capital, pairs - capital
    rows[25] += 0.5 * rows[0]  # Greece is not quite where it should be
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    number = {word: n for n, word in enumerate(words)}
    found = analogies(keyed_vectors(words, rows))
    right = []
    for section, asked in sections.items():
        covered = [[number[w] for w in row] for row in asked if set(row) <= set(words)]
        answers = []
        for a, b, c, d in covered:
            cosines = unit @ (unit[b] - unit[a] + unit[c])
            cosines[[a, b, c]] = -torch.inf
            answers.append(float(cosines.argmax() == d))
        assert (found[section].asked, len(found[section].right)) == (len(asked), len(covered))
        assert found[section].right.sum() == sum(answers), section
        right += answers
    assert found["all"].asked == 19_544
    assert found["all"].right.sum() == sum(right)
    assert 0 < sum(right) < len(right)
    assert list(found) == [*sections, "all"]


@pytest.fixture(scope="module")
def judged_words():
    """Vectors drawn at random of nine tenths of the words of WordSim-353 and SimLex-999."""
    words = set()
    for file in JUDGEMENTS.values():
        rows = [line.split("\t") for line in gensim_file(file).read_text().splitlines()]
        words |= {word.lower() for row in rows if row[0][0] != "#" for word in row[:2]}
    return random_vectors(sorted(words)[: int(0.9 * len(words))], 20)


@pytest.mark.parametrize(("name", "asked"), [("WordSim-353", 353), ("SimLex-999", 999)])
def test_correlations_are_gensims(judged_words, name, asked):
    found = judgements(judged_words, name)
    _, spearman, missing = judged_words.evaluate_word_pairs(str(gensim_file(JUDGEMENTS[name])))
    assert found.asked == asked
    assert len(found.people) == round(asked * (1 - missing / 100)) < asked
    rho, low, high = found.correlation()
    assert rho.value == pytest.approx(spearman.statistic, abs=1e-6)
    assert low < rho.value < high


def test_the_interval_is_as_wide_as_theory_says():
    rng = np.random.default_rng(1)
    people = rng.standard_normal(200)
    found = Judged(200, people, 0.8 * people + 0.6 * rng.standard_normal(200))
    rho, low, high = found.correlation()
    theory = (1 - rho.value**2) * np.sqrt((1 + rho.value**2 / 2) / 197)  # Bonett and Wright 2000
    assert rho.error == pytest.approx(theory, rel=0.25)
    assert high - low == pytest.approx(2 * 1.96 * theory, rel=0.25)
    assert low < 6 / np.pi * np.arcsin(0.4) < high  # a Gaussian's; 95 % of seeds
    assert found.correlation() == (rho, low, high)
    with pytest.raises(UserError, match="9 pairs have no correlation: 10 are needed"):
        Judged(200, people[:9], people[:9]).correlation()


def test_evaluation_has_the_figures_of_a_report(judged_words):
    figures = examine(judged_words)
    assert isinstance(figures["WordSim-353, Spearman's ρ"], Estimate)
    assert figures["SimLex-999, ρ, 95 % from"] < figures["SimLex-999, ρ, 95 % to"]
    sections = analogies(judged_words)
    whole = sections.pop("all")
    assert figures["analogies covered of 19544"] == len(whole.right) > 0
    assert len(whole.right) == sum(len(answers.right) for answers in sections.values())
    assert figures["analogies, % right"].value == pytest.approx(100 * float(whole.right.mean()))
    assert json.loads(json.dumps(plain(figures), allow_nan=False)).keys() == figures.keys()


def test_what_is_not_covered_has_no_figure():
    figures = examine(random_vectors(["tiger", "cat", "Athens"]))
    assert not [name for name in figures if "ρ" in name or "right" in name]
    assert figures["WordSim-353, pairs covered of 353"] == 2  # tiger and cat, tiger and tiger
    assert figures["analogies covered of 19544"] == 0
    assert json.dumps(plain(figures), allow_nan=False)


LETTERS = "abcdefghij"
NAMES = [f"word{a}{b}" for a, b in itertools.product(LETTERS, "abcd")]


def test_a_map_is_of_content_words_and_the_same_each_time(tmp_path):
    vectors = random_vectors(["the", "of", "42", ",", "is", "which", *NAMES])
    assert pictures.content_words(vectors, 3) == ["wordaa", "wordab", "wordac"]
    pictures.plot_map(vectors, tmp_path / "a.png")
    pictures.plot_map(vectors, tmp_path / "b.png")
    content = (tmp_path / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content == (tmp_path / "b.png").read_bytes()
    with pytest.raises(UserError, match="a map needs 5 content words, not 2: add words"):
        pictures.plot_map(random_vectors(["the", "cat", "dog"]), tmp_path / "c.png")


def test_neighbours_are_neighbours_on_the_map():
    generator = torch.Generator().manual_seed(0)
    centres = 5 * torch.randn(4, 10, generator=generator)
    rows = centres.repeat(10, 1) + 0.5 * torch.randn(40, 10, generator=generator)
    at = torch.from_numpy(pictures.tsne_positions(keyed_vectors(NAMES, rows), NAMES))
    nearest = torch.cdist(at, at).fill_diagonal_(torch.inf).argmin(1)
    assert (nearest % 4 == torch.arange(40) % 4).all()


def test_labels_hide_no_other():
    figure = Figure(figsize=(6, 4))
    axis = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    at = np.array([[0.0, 0.0], [0.02, 0.01], [0.04, -0.02], [1.0, 1.0], [1.03, 1.0]])
    pictures.label_points(axis, ["government", "president", "state", "john", "mrs"], at)
    boxes = [text.get_window_extent() for text in axis.texts]
    assert [text.get_text() for text in axis.texts] == [
        *("government", "president", "state", "john", "mrs")
    ]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_hidden_areas():
    boxes = np.array([[0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    others = np.array([[1.0, 1.0, 3.0, 4.0], [-1.0, 0.0, 0.5, 0.25], [2.0, 0.0, 3.0, 9.0]])
    assert pictures.hidden_area(boxes, others).tolist() == [1.125, 0.0]


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_cosines_of_vectors_of_any_length(size):
    """Their squares are beyond single precision."""
    rows = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, -2.0]])
    found = dict(neighbours(keyed_vectors(["a", "b", "c"], rows * size), "a"))
    assert found == pytest.approx({"b": 0.6, "c": 0.0}, abs=1e-6)
