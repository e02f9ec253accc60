"""The notebook: its cells run from top to bottom in a kernel, with fewer steps."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
TOUR = ROOT / "docs/tour.ipynb"


def _read() -> Any:
    return nbformat.read(TOUR, as_version=4)


def _outputs(notebook: Any, kind: str) -> list[str]:
    return [
        output["data"][kind]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if kind in output.get("data", {})
    ]


def test_it_is_kept_without_outputs() -> None:
    notebook = _read()
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    assert len([c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]) == 1


def test_its_links_lead_somewhere() -> None:
    text = "".join(cell.source for cell in _read().cells)
    links = re.findall(r"\]\(([\w.]+\.md)\)", text)
    assert links
    assert all((TOUR.parent / link).exists() for link in links)


# The event loop of the kernel's client, not ours.
@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = _read()
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    store = tmp_path / "store"
    training = (
        "--config training/recipes/cpu.yaml --backend transformers --tiny.vocabulary 400"
        " --tiny.hidden 32 --tiny.layers 1 --tiny.steps 5 --optimisation.max_steps 3"
        f" --tokenized {tmp_path / 'tokenized'}"
    )
    small = f"SIZE, ROWS, LONGEST, TRAINING, STORE = 100, 2, 8, {training!r}, {str(store)!r}"
    notebook.cells.insert(tags.index(["parameters"]) + 1, nbformat.v4.new_code_cell(small))
    where = {"metadata": {"path": str(TOUR.parent)}}
    NotebookClient(notebook, timeout=250, kernel_name="python3", resources=where).execute()
    said = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "kept" in said
    assert f"{store}/report/report.html finished" in said
    assert len(_outputs(notebook, "image/png")) == 2
    [report] = [page for page in _outputs(notebook, "text/html") if "srcdoc" in page]
    assert "Evaluation of" in report
    assert "Do not ship" in report or "too few rows" in report
    assert not (ROOT / "catalogue").exists()
