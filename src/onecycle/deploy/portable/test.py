"""Check that this folder answers here as it did where it was made: python test.py"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

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
        difference = max(abs(p - right["probabilities"][c]) for c, p in answer["probabilities"].items())
        print(f"{right['file']}: {', '.join(answer['labels']) or 'no tag'} (probabilities differ by {difference:.1e})")
        if difference > TOLERANCE or answer["labels"] != right["labels"]:
            wrong.append(f"{right['file']}: expected {right['labels']}, received {answer['labels']}")
    print("\n".join(wrong) or f"{len(expected)} examples are answered as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
