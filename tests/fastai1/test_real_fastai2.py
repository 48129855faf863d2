"""fastai 2 itself beside onecycle: which of them ``fastai`` is. ``make v1`` runs these where fastai 2.8.12 is."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

PYTHON = os.environ.get("ONECYCLE_FASTAI2_PYTHON")
"""An interpreter that has fastai 2 and onecycle."""
pytestmark = pytest.mark.skipif(not PYTHON, reason="ONECYCLE_FASTAI2_PYTHON names no interpreter with fastai 2")


def run_python(code: str) -> list[str]:
    """Lines that a new interpreter with fastai 2 beside prints."""
    done = subprocess.run([str(PYTHON), "-c", code], capture_output=True, text=True, check=False, timeout=290)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_without_the_hook_it_is_fastai_2():
    code = (
        "import onecycle, onecycle.vision\n"
        "from fastai.vision.all import *\n"
        "import fastai\n"
        "print(fastai.__version__, ImageDataLoaders.__module__, vision_learner.__module__)\n"
    )
    version, *places = run_python(code)[-1].split()
    assert version.startswith("2.")
    assert places == ["fastai.vision.data", "fastai.vision.learner"]


def test_with_the_hook_it_is_onecycle_and_off_gives_it_back():
    code = (
        "import onecycle.as_fastai as hook\n"
        "from fastai.vision import *\n"
        "import fastai; print(fastai.__version__, ImageDataBunch.__module__)\n"
        "try: import fastai.vision.all\n"
        "except ImportError as error: print('2' in str(error))\n"
        "hook.off()\n"
        "import fastai.vision.all as v\n"
        "import fastai; print(fastai.__version__[0], v.ImageDataLoaders.__module__)\n"
        "import fastai.callback.all\n"
        "print(v.PILImage.__module__, hasattr(fastai, 'vision'))\n"
    )
    assert run_python(code)[-4:] == [
        "1.0.61 onecycle.fastai1.bunch.bunch", "True", "2 fastai.vision.data", "fastai.vision.core True",
    ]  # fmt: skip


def test_after_fastai_2_the_hook_refuses_and_leaves_it():
    code = (
        "import fastai.vision.all as v\n"
        "try: import onecycle.as_fastai\n"
        "except ImportError as error: print('is imported already' in str(error))\n"
        "import fastai; print(fastai.__version__[0], v.Learner is fastai.learner.Learner)\n"
    )
    assert run_python(code)[-2:] == ["True", "2 True"]


def test_a_part_of_fastai_2_alone_counts_too():
    code = (
        "import fastai.imports\n"
        "try: import onecycle.as_fastai; print('on')\n"
        "except ImportError: print('refused')\n"
        "import sys; print(type(sys.modules['fastai']).__name__)\n"
    )
    assert run_python(code)[-2:] == ["refused", "module"]


def test_off_before_any_import_and_on_again():
    code = (
        "import onecycle.as_fastai as hook\n"
        "hook.off()\n"
        "import fastai; print(fastai.__version__[0])\n"
        "try: hook.on()\n"
        "except ImportError: print('refused')\n"
        "import sys; [sys.modules.pop(n) for n in list(sys.modules) if n.partition('.')[0] == 'fastai']\n"
        "hook.on()\n"
        "import fastai.vision; print(fastai.__version__, fastai.vision)\n"
    )
    assert run_python(code) == ["2", "refused", "1.0.61 <module 'fastai.vision' (onecycle)>"]


def test_libraries_that_ask_for_fastai_get_the_one_that_is_on():
    code = (
        "import importlib.util as u\n"
        "print(u.find_spec('fastai').origin.endswith('__init__.py'))\n"
        "import onecycle.as_fastai as hook\n"
        "print(u.find_spec('fastai').origin)\n"
        "hook.off(); print(u.find_spec('fastai').origin.endswith('__init__.py'))\n"
        "from importlib.metadata import version; print(version('fastai')[0])\n"
    )
    assert run_python(code) == ["True", "onecycle", "True", "2"]


def test_a_notebook_with_the_kernel_and_one_without(tmp_path: Path):
    """Two kernels beside one another: with the extension ``fastai`` is onecycle, without it fastai 2."""
    code = (
        "import sys, json, nbformat\n"
        "from nbclient import NotebookClient\n"
        "from jupyter_client.kernelspec import KernelSpecManager\n"
        "from jupyter_client.manager import AsyncKernelManager\n"
        f"root = {str(tmp_path)!r}\n"
        "from onecycle.fastai1.notebook.kernel import write_kernel\n"
        "from pathlib import Path\n"
        "words = [sys.executable, '-m', 'ipykernel_launcher', '-f', '{connection_file}']\n"
        "(Path(root) / 'kernels' / 'plain').mkdir(parents=True)\n"
        "plain = {'argv': words, 'display_name': 'plain', 'language': 'python'}\n"
        "(Path(root) / 'kernels' / 'plain' / 'kernel.json').write_text(json.dumps(plain))\n"
        "write_kernel(Path(root) / 'kernels' / 'v1')\n"
        "cells = [nbformat.v4.new_code_cell('import fastai; print(fastai.__version__)')]\n"
        "for name in ('v1', 'plain'):\n"
        "    specs = KernelSpecManager(kernel_dirs=[root + '/kernels'])\n"
        "    manager = AsyncKernelManager(kernel_name=name, kernel_spec_manager=specs)\n"
        "    book = nbformat.v4.new_notebook(cells=cells)\n"
        "    NotebookClient(book, km=manager, timeout=200).execute()\n"
        "    print(book.cells[0].outputs[-1]['text'].split()[-1])\n"
    )
    seen = run_python(code)[-2:]
    assert (seen[0], seen[1][0]) == ("1.0.61", "2"), json.dumps(seen)
