"""The page of the command line: every recipe and command, from the dataclasses of its options."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from inference.cli import registry
from inference.cli.options import AuditOptions, SweepOptions
from inference.recipes.options import Training


def help_of(options: type, field: str) -> str:
    """The string under a field, of the class that says it last."""
    for kind in inspect.getmro(options):
        if kind.__module__ != "builtins":
            said = ModuleAnalyzer.for_module(kind.__module__).find_attr_docs()
            if lines := said.get((kind.__name__, field)):
                return " ".join(lines).strip()
    return ""


def shown(default: object) -> str:
    """A default as one types it."""
    if default is dataclasses.MISSING:
        return ""
    if isinstance(default, tuple):
        return f"`{' '.join(map(str, default))}`" if default else ""
    return "" if default is None else f"`{default}`"


def table(options: type, without: type | None = None) -> Iterator[str]:
    """A table of the flags, without those of another class that have the same default."""
    known = {f.name: f.default for f in dataclasses.fields(without)} if without else {}
    yield from ("| flag | default | |", "|---|---|---|")
    for field in dataclasses.fields(options):
        if field.name in known and known[field.name] == field.default:
            continue
        positional = "Positional" in str(field.type)
        flag = field.name.upper() if positional else "--" + field.name.replace("_", "-")
        said = help_of(options, field.name).replace("|", "\\|")
        yield f"| `{flag}` | {shown(field.default)} | {said} |"


def page() -> Iterator[str]:
    """The whole page, as Markdown."""
    yield from (
        "## Training",
        "",
        "Every recipe, of `fit`, `audit` and `sweep`, has these flags.",
        "",
    )
    yield from table(Training)
    for name, kind in (("audit", AuditOptions), ("sweep", SweepOptions)):
        yield from (
            "",
            f"## lowerbound {name} RECIPE",
            "",
            inspect.cleandoc(kind.__doc__ or ""),
            "",
        )
        yield from table(kind, Training)
    for name, source in registry.recipes().items():
        yield from ("", f"## lowerbound fit {name.replace('_', '-')}", "")
        yield from (inspect.cleandoc(source.options.__doc__ or ""), "")
        yield from table(source.options, Training)
    for name, command in registry.commands().items():
        yield from ("", f"## lowerbound {name}", "")
        yield from (registry.summary(command.options), "")
        yield from table(command.options)


class Flags(SphinxDirective):
    """``{flags}``: what ``page`` says, in its place."""

    def run(self) -> list[nodes.Node]:
        """The nodes of the page."""
        lines = "\n".join(page()).split("\n")
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("flags", Flags)
    return {"parallel_read_safe": True}
