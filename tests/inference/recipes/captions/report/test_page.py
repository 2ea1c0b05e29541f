"""The page of captions: whole, escaped, its pictures inside, its examples the ones to see."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from inference.recipes.captions.report.page import choose, page
from inference.results.report import Estimate
from tests.support.attended import example

NASTY = "<script>alert('\"&')</script>"
VOID = {"meta", "img"}


class Read(HTMLParser):
    """Elements with their attributes, the text, and whether each element is closed in its turn."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self.open = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def written(tmp_path):
    said = example(words=("a", NASTY), name=NASTY, references=[NASTY], figures={NASTY: -1.5})
    figures = {"BLEU-1": Estimate(66.125, 0.5), NASTY: NASTY, "log p": torch.tensor([-1.0, -2.0])}
    shown = {"Best": [said, example(places=None)], NASTY: [example(words=())]}
    page(tmp_path / "captions.html", NASTY, figures, shown)
    assert [file.name for file in tmp_path.iterdir()] == ["captions.html"]
    return (tmp_path / "captions.html").read_text(encoding="utf-8")


def test_every_text_is_escaped_and_every_element_closed(written):
    read = Read(written)
    assert read.open == []
    assert "script" not in {tag for tag, _ in read.elements}
    # two titles, a heading, two figures' names and a value; a word, a reference, a picture's name
    assert read.text.count(NASTY) == 9
    assert f"a {NASTY}" in read.text  # the caption
    assert NASTY in {attributes.get("aria-label") for _, attributes in read.elements}


def test_figures_with_their_errors(written):
    text = Read(written).text
    for figure in ("66.12 ± 0.50", "−1.50 ± 0.50", "−1.50", "12.00"):
        assert figure in text


def test_nothing_is_fetched(written):
    assert "http:" not in written
    assert "https:" not in written
    for _, attributes in Read(written).elements:
        assert attributes.get("src", "data:").startswith("data:")
        assert "href" not in attributes
    assert all(
        address.startswith("data:image/jpeg") for address in re.findall(r"url\((.*?)\)", written)
    )


def test_a_photograph_an_example_and_a_panel_a_word(written):
    tags = [tag for tag, _ in Read(written).elements]
    assert tags.count("article") == 3
    assert tags.count("figure") == tags.count("img") == 2 + 3 + 0
    assert tags.count("i") == 2  # points, where drawn
    codes = re.findall(r"data:image/(\w+);base64,([\w+/=]+)", written)
    pictures = [Image.open(io.BytesIO(base64.b64decode(code))) for _, code in codes]
    assert sorted(picture.format for picture in pictures) == ["JPEG"] * 3 + ["PNG"] * 5
    assert {p.size for p in pictures if p.format == "JPEG"} == {(60, 40)}


def test_large_photographs_shrink_and_stay_as_they_are_for_the_caller(tmp_path):
    said = example(size=(1200, 800))
    page(tmp_path / "captions.html", "large", {}, {"Best": [said]})
    html = (tmp_path / "captions.html").read_text()
    assert "aspect-ratio: 448/299" in html
    assert said.picture.size == (1200, 800)


def test_choose():
    rows = choose(np.array([3.0, 9.0, 1.0, 9.0, 5.0]), 2)
    assert rows["Best"] == [1, 3]
    assert rows["Worst"] == [2, 0]
    assert len(set(rows["At random"])) == 2
    assert rows == choose(np.array([3.0, 9.0, 1.0, 9.0, 5.0]), 2)
    assert sorted(choose(np.arange(3.0), 10)["At random"]) == [0, 1, 2]
