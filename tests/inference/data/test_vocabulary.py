"""Words: coco-caption's, and numbers that come back as they went."""

import pytest

from inference import UserError
from inference.data.vocabulary import END, UNKNOWN, Vocabulary, tokenize


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man 's dog , running .", "a man 's dog running"),
        ("Two DOGS (wet) don't swim!", "two dogs wet do n't swim"),
        ('The t-shirt says "U.S. 66" - #1', "the t-shirt says u.s 66 1"),
        ("Ein café – naïve", "ein café naïve"),
        (" . ", ""),
    ],
)
def test_tokens(caption, words):
    assert " ".join(tokenize(caption)) == words


def test_the_frequent_words_have_numbers_and_the_rest_is_unknown():
    vocabulary = Vocabulary.from_texts([["a", "dog"], ["a", "cat", "a", "dog"]], minimum=2)
    assert vocabulary.words[2:] == ("a", "dog")
    assert vocabulary.encode(["a", "cat", "dog"]) == [2, UNKNOWN, 3, END]
    assert vocabulary.decode([2, 3, END, 3]) == "a dog"
    assert len(vocabulary) == 4


def test_save_and_load(tmp_path):
    vocabulary = Vocabulary.from_texts([["naïve", "dog"]], minimum=1)
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json") == vocabulary


def test_what_is_no_vocabulary_is_refused(tmp_path):
    (tmp_path / "list.json").write_text('["a", "dog"]')
    for name, sentence in (("none.json", "no vocabulary"), ("list.json", "holds no vocabulary")):
        with pytest.raises(UserError, match=rf"{name}.*give the file that a training wrote"):
            Vocabulary.load(tmp_path / name)
        with pytest.raises(UserError, match=sentence):
            Vocabulary.load(tmp_path / name)
    with pytest.raises(UserError, match=r"no word occurs 3 times .*: lower the minimum"):
        Vocabulary.from_texts([["a", "dog"]], minimum=3)
