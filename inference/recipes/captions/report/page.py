"""An html page of captions: pictures embedded, no script, no requests."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from inference.engine.training.validation import EVALUATION_SEED
from inference.recipes.captions.report.attention import POINT, Example, Point
from inference.recipes.contract import Figure, Figures
from inference.results.report import Estimate, estimated
from inference.util.html import write_page

MAX_PIXELS = 448  # pixels of a picture's longer side
SHARPER = 4  # pixels a location; browsers interpolate linearly between them

LEGEND = "Bright: the word's attention to the location, relative to the largest in its caption."
DRAWN = f"{LEGEND} Point: the drawn location."
STYLE = f"""
body {{ font: 16px/1.45 system-ui, sans-serif; max-width: 70rem; margin: auto; padding: 1rem }}
h3 {{ font-size: 1.25rem; margin: 0 }}
dl {{ display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; margin: .5rem 0 }}
dd {{ margin: 0; font-variant-numeric: tabular-nums }}
header dd {{ font-size: 1.15rem }}
dt, ul, small {{ opacity: .7 }}
dt, small {{ font-size: .8rem; overflow-wrap: anywhere }}
ul {{ padding-left: 1.1rem; margin: .5rem 0 }}
article {{ border-top: 1px solid #8886; padding: 1.2rem 0; display: grid; gap: .8rem 1.5rem;
  grid-template-columns: minmax(0, 15rem) minmax(0, 1fr); align-items: start }}
.photo {{ background: var(--photo) center/100% 100%; border-radius: 4px }}
.words {{ grid-column: 1/-1; display: grid; gap: .5rem; align-items: end;
  grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)) }}
figure {{ margin: 0; min-width: 0 }}
figcaption {{ text-align: center; overflow-wrap: anywhere }}
figure div {{ position: relative; overflow: hidden }}
figure .photo {{ filter: grayscale(1); position: absolute; inset: 0 }}
figure img {{ position: absolute; width: 100%; height: 100% }}
figure i {{ position: absolute; width: 9px; height: 9px; margin: -5.5px; border-radius: 50%;
  border: 1px solid #000; background: {POINT} }}
@media (max-width: 36rem) {{ article {{ grid-template-columns: minmax(0, 1fr) }}
  .words {{ grid-template-columns: repeat(auto-fill, minmax(5rem, 1fr)) }} }}
"""


def page(
    path: Path, title: str, figures: Figures, examples: Mapping[str, Sequence[Example]]
) -> None:
    """Write the page: the figures, then under each heading its examples.

    Args:
        path: ends on ``.html``.
        title: of the page.
        figures: of the whole set, as for ``inference.results.report.plain``.
        examples: each with its picture, caption, references, figures, and a panel for each word.
    """
    sections = "".join(
        f"<section><h2>{escape(heading)}</h2>{''.join(map(_article, shown))}</section>\n"
        for heading, shown in examples.items()
    )
    drawn = any(e.places is not None for shown in examples.values() for e in shown)
    legend = DRAWN if drawn else LEGEND
    write_page(path, title, STYLE, f"{_list(figures)}<small>{legend}</small>", sections)


def choose(scores: np.ndarray, count: int) -> dict[str, list[int]]:
    """Heading → indices of ``count`` examples: random, best and worst by scores (N,)."""
    order = np.argsort(-scores, kind="stable")
    drawn = np.random.default_rng(EVALUATION_SEED).permutation(len(scores))
    rows = {"At random": drawn[:count], "Best": order[:count], "Worst": order[::-1][:count]}
    return {heading: some.tolist() for heading, some in rows.items()}


def _list(figures: Mapping[str, Figure]) -> str:
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(_number(value))}</dd></div>"
        for name, value in estimated(figures).items()
    )
    return f"<dl>{rows}</dl>"


def _number(value: Figure) -> str:
    if isinstance(value, Estimate):
        error = "" if np.isnan(value.error) else f" ± {value.error:.2f}"
        return _number(value.value) + error
    return f"{value:.2f}".replace("-", "−") if isinstance(value, float) else str(value)


def _article(example: Example) -> str:
    photo = example.picture.copy()
    photo.thumbnail((MAX_PIXELS, MAX_PIXELS))
    ratio = f"aspect-ratio: {photo.width}/{photo.height}"
    panels = zip(example.words, example.glow(), example.points(), strict=True)
    return (
        f'<article style="--photo: url({_data(photo, "jpeg")})">'
        f'<div class="photo" role="img" aria-label="{escape(example.name)}" style="{ratio}"></div>'
        f"<div><h3>{escape(' '.join(example.words)) or '(no word)'}</h3>"
        f"{_list(example.figures)}{_items(example.references)}"
        f"<small>{escape(example.name)}</small></div>"
        f'<div class="words">{"".join(_panel(ratio, *panel) for panel in panels)}</div></article>\n'
    )


def _items(references: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(caption)}</li>' for caption in references)}</ul>"


def _panel(ratio: str, word: str, glow: np.ndarray, point: Point | None) -> str:
    rows, columns = glow.shape[:2]
    light = Image.fromarray((255 * glow).round().astype(np.uint8))
    light = light.resize((SHARPER * columns, SHARPER * rows), Image.Resampling.BICUBIC)
    dot = f'<i style="left: {point[0]:.2%}; top: {point[1]:.2%}"></i>' if point else ""
    return (
        f'<figure><figcaption>{escape(word)}</figcaption><div style="{ratio}">'
        f'<div class="photo"></div><img alt="" src="{_data(light, "png")}">{dot}</div></figure>'
    )


def _data(picture: Image.Image, kind: str) -> str:
    """The picture as a data URL."""
    memory = io.BytesIO()
    picture.save(memory, kind)
    return f"data:image/{kind};base64,{base64.b64encode(memory.getvalue()).decode()}"
