"""The house rules as tests: every module is known, imports run downwards, functions stay short."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "onecycle"

GROUND = {"errors": 0, "settings": 1, "terminal_text": 1, "exit_codes": 2}
ROOMS = {
    "data": {
        "batches", "bunch", "data_block", "datasets", "factories", "layout", "options", "progress",
        "pixels.cache", "pixels.decode", "pixels.image", "pixels.kept", "pixels.pixel_file", "pixels.resize",
        "pixels.store",
        "audit.dataset", "audit.duplicates", "audit.files", "audit.findings", "audit.fingerprints",
        "audit.label_checks", "audit.neighbours", "audit.registration", "audit.rows", "audit.table",
        "augment.augmenter", "augment.draws", "augment.parts", "augment.transforms", "augment.warp",
        "labels.cells", "labels.columns", "labels.items", "labels.pictures", "labels.prevalence", "labels.relabel",
        "labels.splits", "labels.stratified", "labels.tables",
        "sources.archives", "sources.downloads", "sources.untar",
        "synthetic.scenery", "synthetic.tiles",
    },
    "model": {"backbones", "cnn", "fuse", "heads", "summary", "weights"},
    "train": {
        "callbacks", "checkpoint", "evaluate", "frozen", "loop", "losses", "lr_finder", "metrics", "optimizer",
        "schedules", "device.batch_split", "device.host_memory", "device.precision", "device.random_state",
        "device.trial",
        "log.progress", "log.recorder", "log.trackers",
    },
    "evaluation": {
        "comparison", "gradcam", "interpretation", "label_issues", "parts", "plots", "slices", "tags",
        "certainty.calibration", "certainty.constraints", "certainty.intervals", "certainty.thresholds",
        "certainty.trust", "certainty.trust_plots",
        "report.charts", "report.class_table", "report.confusion", "report.content", "report.evidence", "report.page",
        "report.pictures", "report.scores", "report.sliders", "report.verdict",
    },
}  # fmt: skip
UPPER_ROOMS = {
    "runs": {"build", "config", "folder", "history", "load", "predictions", "record", "split"},
    "commands": {
        "check",
        "compare",
        "demo",
        "evaluate",
        "find_lr",
        "info",
        "predict",
        "relabel",
        "report",
        "train",
        "training.closing",
        "training.dry_run",
        "training.opening",
        "training.watching",
        "given.labelled",
        "given.page",
        "given.predicted",
    },
}
"""Rooms above the learner; their modules may import one another."""
UPPER = {
    "calibrated": 3,
    "features": 3,
    "inference": 3,
    "model_files": 3,
    "plan": 3,
    "imbalance": 3,
    "speed": 3,
    "classifier": 4,
    "label_check": 4,
    "pace": 4,
    "recipe": 5,
    "reporting": 5,
    "saving": 5,
    "examined": 6,
    "similar": 4,
    "learner": 7,
    "cnn_learner": 8,
    "doc": 8,
    "screen": 9,
    "runs": 9,
    "commands": 10,
    "vision": 11,
    "command_options": 11,
    "cli": 12,
}
"""Floors above the rooms; a module imports from lower floors only."""


def modules() -> dict[str, Path]:
    paths = (p for p in SRC.rglob("*.py") if p.name != "__init__.py")
    return {".".join(p.relative_to(SRC).with_suffix("").parts): p for p in paths}


class WithoutTypeChecking(ast.NodeTransformer):
    """Drop the imports that only type checkers see."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def imports_of(path: Path) -> set[str]:
    """Modules of onecycle that a file imports when it runs, anywhere in it, as dotted names below the package."""
    found = set()
    for node in ast.walk(WithoutTypeChecking().visit(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{a.name}" for a in node.names}
    known = modules()
    names = {n.removeprefix("onecycle.") for n in found if n.startswith("onecycle.")}
    return {m for n in names for m in known if n == m or n.startswith(m + ".")}


def room(module: str) -> str:
    return module.split(".")[0]


def floor(module: str) -> int:
    return {**GROUND, **UPPER}.get(module if module in GROUND else room(module), 2)


def test_every_module_is_in_the_plan():
    rooms = ROOMS | UPPER_ROOMS
    planned = set(GROUND) | (set(UPPER) - set(rooms)) | {f"{r}.{m}" for r, names in rooms.items() for m in names}
    assert set(modules()) == planned


def test_no_room_outgrows_ten_files():
    folders = {p.parent for p in modules().values()} - {SRC}
    assert {f.name: n for f in folders if (n := len(list(f.glob("*.py"))) - 1) > 10} == {}


def test_imports_run_downwards_and_never_sideways():
    wrong = []
    for module, path in modules().items():
        for other in imports_of(path):
            same_room = room(module) == room(other)
            if not same_room and floor(other) >= floor(module):
                wrong.append(f"{module} → {other}")
    assert wrong == []


def test_no_import_circle():
    """Imports inside functions count; those that only type checkers see do not."""
    graph = {module: imports_of(path) for module, path in modules().items()}

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import circle: {' → '.join((*trail, module))}"
        for other in graph[module]:
            visit(other, (*trail, module))

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("name", sorted(modules()))
def test_house_style(name):
    path = modules()[name]
    text = path.read_text()
    assert text.count("\n") <= 500, f"{name} has more than 500 lines: split it by noun"
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{name} says what it is for"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"{name}:{node.lineno}: user input needs a real error"
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"{name}:{node.lineno}: bare except"
        if isinstance(node, ast.Import):
            assert all(a.name != "pickle" for a in node.names), f"{name}: no pickle"
        if isinstance(node, ast.ImportFrom):
            assert all(a.name != "*" for a in node.names), f"{name}: star import"
            if node.module == "pickle":  # an error class may be caught; nothing is ever pickled
                assert {a.name for a in node.names} == {"UnpicklingError"}, f"{name}: no pickle"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 60, f"{name}: {node.name} has {length} lines"


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_importing_onecycle_is_light():
    heavy = "[m for m in ('torch', 'matplotlib', 'pandas', 'numpy', 'timm', 'PIL') if m in sys.modules]"
    assert run_python(f"import sys, onecycle; print({heavy})") == "[]"
    assert run_python(f"import sys, onecycle.cli.main; print({heavy})") == "[]"


def test_help_does_not_load_torch_and_answers():
    code = (
        "import sys, onecycle.cli.main\n"
        "sys.argv = ['onecycle', '--help']\n"
        "try: onecycle.cli.main.main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    out = run_python(code)
    assert "demo" in out
    assert out.endswith("False")


def test_a_cold_help_is_not_slow():
    """A guard far above the target, which ``benchmarks/startup.py`` measures: it catches an import of torch."""
    start = time.perf_counter()
    code = "import sys; from onecycle.cli.main import main; sys.argv = ['onecycle', '--help']; main()"
    assert "demo" in run_python(code)
    assert time.perf_counter() - start < 3.0


def test_star_imports_bring_what_the_lesson_uses():
    names = (
        "untar_data URLs pd np plt torch nn F optim Path re os sys partial itemgetter Tensor ImageDataBunch "
        "get_transforms create_cnn cnn_learner models error_rate ClassificationInterpretation doc ImageList "
        "DatasetType imagenet_stats fbeta accuracy_thresh get_image_files open_image"
    )
    code = (
        "from onecycle import *\nfrom onecycle.vision import *\n"
        f"print([n for n in {names.split()!r} if n not in globals()])"
    )
    assert run_python(code) == "[]"
