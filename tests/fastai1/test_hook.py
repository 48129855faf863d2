"""The hook in processes of its own: what ``fastai`` is with it, without it, and beside another one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onecycle.errors import OutOfScopeError


def run_python(code: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def hooked():
    """The hook, on in this process for one test."""
    from onecycle import as_fastai

    as_fastai.on()
    yield as_fastai
    as_fastai.off()


@pytest.fixture
def fastai2(tmp_path: Path) -> str:
    """A folder for the search path with a package ``fastai`` that calls itself 2.8.12."""
    package = tmp_path / "beside" / "fastai"
    (package / "vision").mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "2.8.12"\n')
    (package / "vision" / "__init__.py").write_text("")
    (package / "vision" / "all.py").write_text("L = list\n")
    return str(package.parent)


def test_the_star_of_vision_is_the_product_s_and_v1_s():
    out = run_python(
        "import onecycle.as_fastai\n"
        "from fastai.vision import *\n"
        "from fastai.metrics import error_rate as e1\n"
        "from fastai.callbacks import SaveModelCallback\n"
        "import fastai, onecycle.vision\n"
        "print(error_rate is e1, issubclass(ImageList, onecycle.vision.ImageList), URLs is onecycle.vision.URLs)\n"
        "print(__version__ == fastai.__version__ == '1.0.61', vision is fastai.vision, callbacks is fastai.callbacks)\n"
        "print(models is fastai.vision.models, models.resnet34.name, ifnone(None, 3), random.__name__, PIL.__name__)\n"
        "def f(path: PathOrStr, n: Tuple[int, int] = (1, 2)) -> Collection[Tensor]: return gc, math\n"
        "print(tensor(1, 2).tolist(), tensor(np.array([3], dtype='int32')).dtype, to_np(tensor([1.5])).dtype)\n"
    )
    assert out.splitlines() == [
        "True True True", "True True True", "True resnet34 3 random PIL", "[1, 2] torch.int64 float32",
    ]  # fmt: skip


def test_the_hook_is_light():
    assert run_python("import onecycle.as_fastai, fastai, sys; print('torch' in sys.modules)") == "False"


def test_paths_have_ls_while_it_is_on(tmp_path):
    (tmp_path / "a.jpg").touch()
    code = (
        "from pathlib import Path\nimport onecycle.as_fastai as hook\n"
        f"print([p.name for p in Path({str(tmp_path)!r}).ls()])\n"
        "hook.off(); print(hasattr(Path, 'ls'))\n"
    )
    assert run_python(code) == "['a.jpg']\nFalse"


def test_a_fastai_beside_is_itself_without_the_hook(fastai2):
    code = "import onecycle, fastai, fastai.vision.all as v; print(fastai.__version__, v.L is list)"
    assert run_python(code, PYTHONPATH=fastai2) == "2.8.12 True"


def test_with_the_hook_it_is_onecycle_and_off_gives_it_back(fastai2):
    code = (
        "import onecycle.as_fastai as hook\n"
        "from fastai.core import ifnone\nimport fastai; print(fastai.__version__)\n"
        "hook.off()\n"
        "import fastai, fastai.vision.all as v; print(fastai.__version__, v.L is list)\n"
    )
    assert run_python(code, PYTHONPATH=fastai2).splitlines() == ["1.0.61", "2.8.12 True"]


def test_it_refuses_where_the_other_one_is_imported_already(fastai2):
    code = (
        "import fastai\n"
        "try: import onecycle.as_fastai\n"
        "except ImportError as error: print(error)\n"
        "print(fastai.__version__)\n"
    )
    first, version = run_python(code, PYTHONPATH=fastai2).splitlines()
    assert first.endswith("is imported already: restart the process and import onecycle.as_fastai before fastai")
    assert "beside" in first
    assert version == "2.8.12"


def test_off_without_another_fastai_leaves_none_and_on_brings_it_again():
    code = (
        "import onecycle.as_fastai as hook\nimport fastai.core\nhook.off()\n"
        "try: import fastai\nexcept ModuleNotFoundError as error: print(error)\n"
        "hook.on()\nimport fastai; print(fastai.__version__)\n"
    )
    assert run_python(code).splitlines() == ["No module named 'fastai'", "1.0.61"]


@pytest.mark.parametrize(
    ("statement", "part"),
    [
        ("import fastai.text", "text"),
        ("from fastai.tabular import *", "tables of numbers and categories"),
        ("from fastai.collab import *", "collaborative filtering"),
        ("from fastai.vision.gan import *", "pictures as targets and GANs"),
        ("from fastai.vision.all import *", "vision.all is its module, not v1's"),
        ("from fastai.vision import *; unet_learner(1, 2)", "segmentation"),
        ("from fastai.vision import *; SegmentationItemList.from_folder('x')", "segmentation"),
        ("from fastai.vision import *\nclass Mine(ObjectItemList): pass", "boxes around objects"),
        ("from fastai.vision import *; ImagePoints(None)", "points in pictures"),
    ],
)
def test_what_is_out_of_scope_says_so(statement, part, hooked):
    with pytest.raises(OutOfScopeError, match="onecycle classifies pictures and does not have it") as raised:
        exec(statement, {})
    assert part in str(raised.value)


def test_a_name_that_neither_has_is_an_error():
    code = (
        "import onecycle.as_fastai, fastai.vision\n"
        "try: fastai.vision.no_such_name\nexcept AttributeError as error: print(error)\n"
        "try: from fastai.vision import no_such_name\nexcept ImportError as error: print(type(error).__name__)\n"
        "try: import fastai.no_such_module\nexcept ModuleNotFoundError as error: print(error)\n"
    )
    assert run_python(code).splitlines() == [
        "module 'fastai.vision' has no attribute 'no_such_name': nor had fastai v1",
        "ImportError",
        "No module named 'fastai.no_such_module'",
    ]


def test_what_is_set_in_a_module_stays_there():
    code = (
        "import onecycle.as_fastai, fastai.vision.data, fastai.vision.image, onecycle.vision\n"
        "before = fastai.vision.image.open_image\n"
        "fastai.vision.data.open_image = len\n"
        "print(fastai.vision.data.open_image is len, fastai.vision.image.open_image is before)\n"
        "print(onecycle.vision.open_image is not len)\n"
    )
    assert run_python(code).splitlines() == ["True True", "True"]


def test_the_extension_of_ipython_switches_it(hooked):
    hooked.unload_ipython_extension(None)
    with pytest.raises(ModuleNotFoundError):
        import fastai
    hooked.load_ipython_extension(None)
    import fastai.version

    assert fastai.version.__version__ == "1.0.61"
