"""The recipes of docs/exported-models.md, as they stand there: the answers are those of predict.py."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "exported-models.md"


def recipe(heading: str) -> str:
    """Return the program under a heading of the page."""
    part = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1]
    return re.search(r"```python\n(.*?)```", part, flags=re.S)[1]


def test_openvino(served, tmp_path):
    pytest.importorskip("openvino", reason="needs openvino, which no extra installs: see docs/exported-models.md")
    model, files = served
    folder = shutil.copytree(model.folder, tmp_path / "model")
    # The other runtime must not be needed.
    (folder / "openvino_predict.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n" + recipe("OpenVINO"))
    words = [sys.executable, str(folder / "openvino_predict.py"), *files]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, right = [json.loads(line) for line in done.stdout.splitlines()], list(model.predict(files))
    assert [a["labels"] for a in found] == [a["labels"] for a in right]
    probs, expected = (np.array([list(a["probabilities"].values()) for a in side]) for side in (found, right))
    assert np.abs(probs - expected).max() < 1e-5
