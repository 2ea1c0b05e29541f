"""Temporary files: nobody else's, through no link, and cleared when their writer is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inference import UserError
from inference.util.files import distinct, replacing


def write(path, text):
    with replacing(path) as beside:
        beside.write_text(text)


def test_no_link_is_followed_and_no_permission_lost(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    for name in (f".a.txt.{os.getpid()}.tmp.txt", f".a.txt.{os.getpid()}.x.tmp.txt"):
        (tmp_path / name).symlink_to(tmp_path / "theirs")
    write(tmp_path / "a.txt", "ours")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert (tmp_path / "a.txt").read_text() == "ours"
    (tmp_path / "b").write_text("")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_what_a_killed_writer_left_is_cleared_and_nothing_else(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    gone = int(ended.stdout)
    left = [f".a.txt.{gone}.tmp.txt", f".a.txt.{gone}.k3_x.tmp.txt"]
    kept = [
        f".a.txt.{os.getppid()}.k.tmp.txt",
        f".b.txt.{gone}.k.tmp.txt",
        "a.txt.tmp.txt",
        ".a.txt",
    ]
    for name in left + kept:
        (tmp_path / name).write_text("")
    write(tmp_path / "a.txt", "ours")
    assert {p.name for p in tmp_path.iterdir()} == {*kept, "a.txt"}


def test_a_failed_write_leaves_what_was_there(tmp_path):
    write(tmp_path / ("é" * 60), "first")
    with pytest.raises(UserError, match="could not be written"), replacing(tmp_path / "a"):
        raise OSError("No space left on device")
    with pytest.raises(TypeError):
        write(tmp_path / ("é" * 60), None)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["first"]


def test_outputs_of_one_stem_have_names_of_their_own():
    paths = [Path("a/x.png"), Path("b/x.png"), Path("c/x.jpg"), Path("x-2.png")]
    assert len(set(distinct(paths))) == 4
    assert distinct(paths)[0] == "x"
