"""What a process loads before it is asked for more: a light import, help without torch, the names of the notebook."""

from __future__ import annotations

import resource
import subprocess
import sys

import onecycle


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
    """Seconds of a core, whatever else runs; ``benchmarks/startup.py`` measures the target, which lies far below."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = "import sys; from onecycle.cli.main import main; sys.argv = ['onecycle', '--help']; main()"
    assert "demo" in run_python(code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0  # torch alone takes 1.5


def test_the_package_runs_as_a_module():
    words = [sys.executable, "-m", "onecycle"]
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"onecycle {onecycle.__version__}\n"
    wrong = subprocess.run([*words, "trian"], capture_output=True, text=True, check=False, timeout=60)
    assert wrong.returncode == 2
    assert "trian" in wrong.stderr


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
