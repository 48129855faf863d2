"""Check that this folder answers here as it did where it was made: python test.py"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import predict

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-4  # another processor or another release of libjpeg rounds differently


def main() -> int:
    """Compare digests and answers; returns the exit status."""
    predict.print_utf8()
    model, wrong = predict.Model(HERE), []
    for name, digest in model.manifest["sha256"].items():
        if hashlib.sha256((HERE / name).read_bytes()).hexdigest() != digest:
            wrong.append(f"{name} is not the file that was exported")
    expected = json.loads((HERE / "examples" / "expected.json").read_text(encoding="utf-8"))
    for answer, right in zip(model.predict(HERE / e["file"] for e in expected), expected, strict=True):
        if "error" in answer:
            wrong.append(f"{right['file']} cannot be read here: {answer['error']}")
            continue
        said, difference = compared(answer, right)
        print(f"{right['file']}: {said or 'no tag'} (differs by {difference:.1e})")
        if difference > TOLERANCE or answer.get("labels") != right.get("labels"):
            wrong.append(f"{right['file']}: expected {compared(right, right)[0]}, received {said}")
    print("\n".join(wrong) or f"{len(expected)} examples are answered as expected")
    return 1 if wrong else 0


def compared(answer: dict[str, Any], right: dict[str, Any]) -> tuple[str, float]:
    """Return what an answer says, and by how much its values differ from the right ones: of those above 1, relative."""
    values, others = (a.get("probabilities") or a["numbers"] for a in (answer, right))
    said = answer["labels"] if "labels" in answer else [f"{value:.4g}" for value in values.values()]
    return ", ".join(said), max(abs(v - others[name]) / max(1.0, abs(others[name])) for name, v in values.items())


if __name__ == "__main__":
    sys.exit(main())
