"""Foreign words on the terminal: no escape codes, no markup, in any encoding."""

import subprocess
import sys

import pytest
from rich.console import Console

from inference.util import tables
from inference.util.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("a\u202etxt.exe", r"a\u202etxt.exe"),
        ("\udce9", r"\udce9"),
        ("क्‍ष é\n\t", "क्‍ष é\n\t"),
        ("a" * 1000, "a" * 150 + "…"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert printable(text) == shown


def test_tables_hold_words_as_they_are():
    table = tables.new_table("a[/x]2", ("[b]word[/b]", "\x1b[0m"))
    table.add_row("[red]x", "\x1b[31m")
    console = Console(record=True, width=80)
    console.print(table)
    text = console.export_text()
    for word in ("a[/x]2", "[b]word[/b]", r"\x1b[0m", "[red]x", r"\x1b[31m"):
        assert word in text


SHELL = "{python} -m inference.cli {command}"


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("--version", 0, "lowerbound 0"),
        ("help", 0, "lowerbound fit RECIPE"),
        ("list | head -1; exit ${PIPESTATUS[0]}", (0, 141), ""),
        ("fit vae --help | head -1; exit ${PIPESTATUS[0]}", (0, 141), ""),
    ],
)
def test_the_command_in_a_shell_that_is_not_utf8(command, code, words):
    script = SHELL.format(python=sys.executable, command=command)
    ended = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONIOENCODING": "ascii",
            "PYTHONPATH": ":".join(sys.path),
        },
    )
    assert ended.returncode in (code if isinstance(code, tuple) else (code,)), ended.stderr
    assert words.encode() in ended.stdout
    assert b"Traceback" not in ended.stderr
    assert b"rror" not in ended.stderr
