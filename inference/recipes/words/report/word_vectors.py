"""Vectors of words: gensim's KeyedVectors built, kept in word2vec's formats, asked and examined.

Files are text (.txt, .vec) or binary (.bin), each also gzipped (.txt.gz, …).  The examinations are
files that gensim brings along: 19,544 analogies a : b = c : ? (Mikolov et al. 2013), and people's
judgements of 353 (WordSim, Finkelstein et al. 2002) and 999 (SimLex, Hill et al. 2015) pairs.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from inference.data.sources import gensim_file, gensim_module
from inference.engine.training.validation import EVALUATION_SEED
from inference.recipes.words.data.text import decoded, readable, unpacked
from inference.results.report import Estimate, mean_and_error
from inference.util import tables
from inference.util.errors import UserError
from inference.util.files import replacing

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

KEPT = "vectors.txt"  # in a run's directory
FORMATS = {".txt": False, ".vec": False, ".bin": True}  # whether binary
QUESTIONS = "questions-words.txt"
JUDGEMENTS = {"WordSim-353": "wordsim353.tsv", "SimLex-999": "simlex999.txt"}
FEWEST = 10  # pairs that a correlation is told of
DRAWS = 1000


def build(
    words: Sequence[str], vectors: Tensor | np.ndarray, counts: Tensor | None = None
) -> KeyedVectors:
    """Vectors (V, D) of V words, and how often each occurs, (V,), the most frequent first.

    Raises:
        UserError: there are not as many vectors as words, a word holds a blank or stands twice, a
            vector is not finite, or gensim is not installed.
    """
    rows = torch.as_tensor(vectors).detach().cpu().float().numpy()
    if rows.ndim != 2 or len(rows) != len(words) or not len(words):
        raise UserError(f"{len(words)} words, but vectors of shape {rows.shape}: give one for each")
    seen: set[str] = set()
    for word, finite in zip(words, np.isfinite(rows).all(1), strict=True):
        if word in seen or not word or " " in word or "\n" in word:
            raise UserError(f"the word {word!r} stands twice or holds blanks: rename or delete it")
        if not finite:
            raise UserError(f"the vector of {word!r} is not finite: lower the learning rate")
        seen.add(word)
    found = gensim_module("gensim.models.keyedvectors").KeyedVectors(rows.shape[1])
    found.add_vectors(list(words), rows)
    often = range(len(words), 0, -1) if counts is None else counts.tolist()
    for word, count in zip(words, often, strict=True):
        found.set_vecattr(word, "count", count)
    return _with_norms(found)


def _with_norms(vectors: KeyedVectors) -> KeyedVectors:
    vectors.fill_norms()
    vectors.norms[vectors.norms == 0] = 1.0  # a vector of zeros is like no other: cosine 0
    return vectors


def save(vectors: KeyedVectors, path: Path) -> None:
    """Write them in word2vec's text or binary format, as the name ends; counts are not kept.

    Raises:
        UserError: the name has another ending, or the file cannot be written.
    """
    binary = _binary(path)
    with replacing(path) as beside:
        vectors.save_word2vec_format(str(beside), binary=binary)


def load(path: Path) -> KeyedVectors:
    """What ``save``, word2vec, gensim or fastText wrote.

    Args:
        path: a file, or the directory of a run, which holds ``vectors.txt``.

    Raises:
        UserError: it does not exist, is cut short, or is no such file; text is told by its line.
    """
    if path.is_dir():
        path = path / KEPT
    binary = _binary(path)
    if not path.is_file():
        raise UserError(
            f"no vectors {path}: give a run that learnt vectors of words, or a .txt, .vec or .bin "
            "file of word2vec's format"
        )
    return _load_binary(path) if binary else _load_text(path)


def _binary(path: Path) -> bool:
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if ending not in FORMATS:
        raise UserError(f"{path}: name vectors .txt, .vec (text) or .bin (binary), or these .gz")
    return FORMATS[ending]


def _sizes(line: str, path: Path) -> tuple[int, int]:
    """The numbers of words and of a vector's entries that the first line tells."""
    sizes = line.split()
    if len(sizes) != 2 or not all(size.isdecimal() and int(size) for size in sizes):
        raise UserError(
            f"{path}, line 1: word2vec's format begins with the numbers of words and of a vector's "
            f"entries, not with {line[:40]!r}: put them there"
        )
    return int(sizes[0]), int(sizes[1])


def _load_text(path: Path) -> KeyedVectors:
    places: dict[str, int] = {}
    rows: list[np.ndarray] = []
    with readable(path) as raw, decoded(raw, path) as file:
        count, width = _sizes(file.readline(), path)
        for line, content in enumerate(file, 2):
            word, row = _row(content, width, f"{path}, line {line}")
            if word in places:
                first = places[word]
                raise UserError(f"{path}, line {line}: {word!r} has line {first}: delete one")
            places[word] = line
            rows.append(row)
    if len(rows) != count:
        raise UserError(
            f"{path} holds {len(rows)} vectors, but line 1 says {count}: it was cut short; write "
            "it again"
        )
    return build(list(places), np.stack(rows))


def _row(content: str, width: int, where: str) -> tuple[str, np.ndarray]:
    """A word and its vector (width,)."""
    word, *entries = content.rstrip().split(" ")
    if len(entries) != width:
        raise UserError(
            f"{where}: {len(entries)} numbers after {word!r}, but line 1 says {width}: mend either"
        )
    try:
        row = np.array(entries, np.float32)
    except ValueError as error:
        raise UserError(f"{where}: {error}: give {width} numbers after {word!r}") from None
    if not np.isfinite(row).all():
        raise UserError(f"{where}: the vector of {word!r} is not finite: delete the line")
    return word, row


def _load_binary(path: Path) -> KeyedVectors:
    with readable(path) as raw:
        count, width = _sizes(_first_line(unpacked(raw, path)), path)
    if path.suffix == ".bin" and path.stat().st_size < 4 * count * width:
        raise UserError(
            f"{path} is cut short: {count} vectors of {width} do not fit; write it again"
        )
    keyed = gensim_module("gensim.models.keyedvectors").KeyedVectors
    try:
        found = keyed.load_word2vec_format(str(path), binary=True)
    except (OSError, EOFError, ValueError, MemoryError) as error:
        raise UserError(f"{path} is cut short or damaged ({error}): write it again") from None
    if (words := len(found.key_to_index)) != count:
        raise UserError(
            f"{path} holds {words} different words, but says {count}: some stand twice; write it "
            "again"
        )
    if not np.isfinite(found.vectors).all():
        raise UserError(f"{path} holds vectors that are not finite: write it again")
    return _with_norms(found)


def _first_line(file: BinaryIO) -> str:
    return file.readline(100).decode("utf-8", "replace")


def neighbours(vectors: KeyedVectors, query: str, count: int = 10) -> list[tuple[str, float]]:
    """The words nearest to a word, or to a sum such as ``king - man + woman``, and their cosines.

    Words of a sum are unit vectors; its own words are not among the neighbours.

    Raises:
        UserError: a word is unknown; it proposes words that are spelt much like it.
    """
    signed: dict[str, list[str]] = {"+": [], "-": []}
    sign = "+"
    for term in query.split():
        if term in signed:
            sign = term
        else:
            signed[sign].append(_known(vectors, term))
    if not any(signed.values()):
        raise UserError(f"{query!r} holds no word: give one, or a sum such as king - man + woman")
    return vectors.most_similar(positive=signed["+"], negative=signed["-"], topn=count)


def queries(words: Sequence[str]) -> list[str]:
    """What a person asks with these words: for each of them, or for one sum with + or -.

    Raises:
        UserError: there are none.
    """
    if not words:
        raise UserError("no words: give one or more, or a sum such as king - man + woman")
    return [" ".join(words)] if {"+", "-"} & set(words) else list(words)


def table(vectors: KeyedVectors, query: str) -> Table:
    """The neighbours of a query and their cosines, for the screen.

    Raises:
        UserError: as ``neighbours``.
    """
    shown = tables.table("", (escape(query), "cosine"))
    for word, cosine in neighbours(vectors, query):
        shown.add_row(escape(word), f"{cosine:.3f}")
    return shown


def _known(vectors: KeyedVectors, word: str) -> str:
    for form in (word, word.lower()):
        if form in vectors:
            return form
    close = difflib.get_close_matches(word.lower(), vectors.index_to_key, 3)
    remedy = f"did you mean {' or '.join(close)}?" if close else "give another word"
    raise UserError(f"no vector for {word!r} among {len(vectors)} words: {remedy}")


@dataclass(frozen=True)
class Answers:
    """Questions of one kind.

    Args:
        asked: how many there are.
        right: (n,) of 0 and 1, the answers to those n whose four words all have vectors.
    """

    asked: int
    right: Tensor


def analogies(vectors: KeyedVectors) -> dict[str, Answers]:
    """Analogies a : b = c : ? by section, and ``all``.

    An answer is the word, other than these three, whose vector has the largest cosine with
    b − a + c (of unit vectors); case is ignored.

    Raises:
        UserError: gensim is not installed, or came without the questions.
    """
    path = gensim_file(QUESTIONS)
    _, sections = vectors.evaluate_word_analogies(
        str(path), restrict_vocab=len(vectors), dummy4unknown=True
    )
    known = _caseless(vectors)
    answers = {}
    for section in sections:
        wrong = [q for q in section["incorrect"] if all(word in known for word in q)]
        right, asked = section["correct"], len(section["correct"]) + len(section["incorrect"])
        answers[section["section"]] = Answers(
            asked, torch.tensor([1.0] * len(right) + [0.0] * len(wrong))
        )
    answers["all"] = answers.pop("Total accuracy")
    return answers


def _caseless(vectors: KeyedVectors) -> dict[str, str]:
    """Words by their upper-case forms; the most frequent of those that have one in common."""
    return {word.upper(): word for word in reversed(vectors.index_to_key)}


@dataclass(frozen=True)
class Judged:
    """Pairs of words that people judged.

    Args:
        asked: how many there are.
        people: (n,) the mean judgement of those n pairs whose two words have vectors.
        cosines: (n,) of these pairs' vectors.
    """

    asked: int
    people: np.ndarray
    cosines: np.ndarray

    def correlation(self) -> tuple[Estimate, float, float]:
        """Spearman's ρ with its standard error, and the limits of its 95 % interval.

        Error and interval (bias-corrected and accelerated, Efron 1987) are of the bootstrap: ρ of
        1,000 samples of n pairs, drawn with replacement with a fixed seed.

        Raises:
            UserError: there are fewer than 10 pairs.
        """
        from scipy import stats

        if len(self.people) < FEWEST:
            raise UserError(f"{len(self.people)} pairs have no correlation: {FEWEST} are needed")

        def spearman(people: np.ndarray, cosines: np.ndarray) -> float:
            return float(stats.spearmanr(people, cosines).statistic)

        drawn = stats.bootstrap(
            (self.people, self.cosines),
            spearman,
            n_resamples=DRAWS,
            paired=True,
            vectorized=False,
            random_state=np.random.default_rng(EVALUATION_SEED),
        )
        rho = Estimate(spearman(self.people, self.cosines), float(drawn.standard_error))
        low, high = drawn.confidence_interval
        return rho, float(low), float(high)


def judgements(vectors: KeyedVectors, name: str) -> Judged:
    """People's judgements of pairs beside the cosines of their vectors; case is ignored.

    Args:
        vectors: of the words.
        name: WordSim-353 (relatedness, 0 to 10) or SimLex-999 (similarity, 0 to 10).

    Raises:
        UserError: gensim is not installed, or came without the judgements.
    """
    known = _caseless(vectors)
    rows = [
        line.split("\t")
        for line in gensim_file(JUDGEMENTS[name]).read_text("utf-8").splitlines()
        if not line.startswith("#")
    ]
    covered = [row for row in rows if row[0].upper() in known and row[1].upper() in known]
    cosines = [vectors.similarity(known[a.upper()], known[b.upper()]) for a, b, _ in covered]
    return Judged(len(rows), np.array([float(row[2]) for row in covered]), np.array(cosines))


def evaluate(vectors: KeyedVectors) -> Mapping[str, Any]:
    """All examinations as figures of a report: ρ, per cent of right answers, how many were asked.

    An examination is of the words that have vectors; what share of it that is stands beside it.

    Raises:
        UserError: as ``analogies``.
    """
    figures: dict[str, Any] = {}
    for name in JUDGEMENTS:
        judged = judgements(vectors, name)
        if len(judged.people) >= FEWEST:
            rho, low, high = judged.correlation()
            figures |= {
                f"{name}, Spearman's ρ": rho,
                f"{name}, ρ, 95 % from": low,
                f"{name}, ρ, 95 % to": high,
            }
        figures[f"{name}, pairs covered of {judged.asked}"] = len(judged.people)
    answers = analogies(vectors)["all"]
    if len(answers.right):
        figures["analogies, % right"] = mean_and_error(100 * answers.right)
    figures[f"analogies covered of {answers.asked}"] = len(answers.right)
    return figures
