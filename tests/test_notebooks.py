"""The notebooks are committed as they ran, and they run."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
LARGEST = 600_000  # bytes
A_PATH = re.compile(r"/(home|root|tmp|var|usr|opt|work|Users|mnt)/|site-packages|[A-Z]:\\\\")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def code_cells(path):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


def test_there_are_nine():
    assert len(NOTEBOOKS) == 9


def test_it_is_committed_executed_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    kinds = [kind for c in cells for o in c["outputs"] for kind in o.get("data", {})]
    assert kinds.count("image/png") >= 3
    assert path.stat().st_size < LARGEST


def test_its_outputs_have_no_error_no_warning_and_no_path_of_a_machine(path):
    for cell in code_cells(path):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
            data = {k: v for k, v in output.get("data", {}).items() if k != "image/png"}
            assert not A_PATH.search(json.dumps([output.get("text", ""), data]))


@pytest.mark.slow
def test_it_runs(path):
    pytest.importorskip("nbclient")
    from notebooks.execute import executed

    executed(path)
