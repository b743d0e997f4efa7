"""Fine-tuned networks as people make them: replaced heads, other first layers, foreign and older names."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.model.checkpoint import load_classifier

State = dict[str, torch.Tensor]


def drawn(build: Callable[[], nn.Module]) -> nn.Module:
    """A network whose norms have statistics of their own, so that an exchanged pair of tensors shows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().eval()
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                value.normal_(0, 0.1)
    return model


def tv(name: str, **kwargs: Any) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, **kwargs)


def same_logits(path: Any, model: nn.Module, size: int = 64, n_channels: int = 3, arch: str | None = None) -> None:
    images = torch.randn(2, n_channels, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(load_classifier(path, arch).model(images), expected, rtol=1e-4, atol=1e-5)


def with_head(model: nn.Module, name: str, head: nn.Module) -> nn.Module:
    setattr(model, name, head)
    return model


HEADS: dict[str, Callable[[], nn.Module]] = {
    "squeezed classifier": lambda: with_head(tv("mobilenet_v3_small"), "classifier", nn.Linear(576, 3)),
    "classifier in a Sequential": lambda: with_head(
        tv("mobilenet_v3_small"), "classifier", nn.Sequential(nn.Dropout(0.3), nn.Linear(576, 3))
    ),
    "head of a plain network": lambda: with_head(tv("shufflenet_v2_x0_5"), "fc", nn.Linear(1024, 3)),
    "without a bias": lambda: with_head(tv("mobilenet_v3_small"), "classifier", nn.Linear(576, 3, bias=False)),
}


@pytest.mark.parametrize("name", HEADS)
def test_replaced_heads_of_torchvision(name: str, save) -> None:
    model = drawn(HEADS[name])
    same_logits(save(model.state_dict()), model)


def test_a_replaced_head_is_a_decision(save) -> None:
    model = drawn(HEADS["squeezed classifier"])
    classifier = load_classifier(save(model.state_dict()))
    said = next(decision for decision in classifier.decisions if decision.what == "final layer")
    assert said.taken == "'classifier' alone (576 -> 3)"
    assert (classifier.n_outputs, classifier.reader.fold(classifier.model).d) == (3, 576)


def test_a_head_whose_inputs_do_not_fit_is_refused(save) -> None:
    model = drawn(HEADS["squeezed classifier"])
    state = {**model.state_dict(), "classifier.weight": torch.ones(3, 575)}
    with pytest.raises(CheckpointError):
        load_classifier(save(state))


def test_auxiliary_outputs_of_a_thousand_classes_are_left_out(save) -> None:
    model = drawn(lambda: tv("googlenet", aux_logits=True, init_weights=False, transform_input=True))
    model.fc = nn.Linear(1024, 3)
    classifier = load_classifier(save(model.state_dict()))
    assert any(note.startswith("auxiliary outputs of training were left out") for note in classifier.notes)
    model.aux_logits = False
    same_logits(save(model.state_dict()), model)


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_one_channel_in_torchvisions_networks(name: str, save) -> None:
    def build() -> nn.Module:
        model = tv(name, num_classes=3)
        first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
        first.weight = nn.Parameter(first.weight[:, :1].clone())
        first.in_channels = 1
        return model

    model = drawn(build)
    path = save(model.state_dict())
    same_logits(path, model, n_channels=1)
    assert load_classifier(path).transform.input_size[0] == 1


class Wrapped(nn.Module):
    """A class of somebody's own around another network's layers."""

    def __init__(self) -> None:
        super().__init__()
        inner = timm.create_model("test_resnet", num_classes=0)
        self.features = nn.Sequential(*list(inner.children())[:-2])
        self.classify = nn.Linear(inner.num_features, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(x).mean((2, 3)))


def renamed(state: State, rename: Callable[[str], str]) -> State:
    return {rename(name): value for name, value in state.items()}


def test_layers_in_a_sequential_by_their_order(save) -> None:
    model = drawn(Wrapped)
    classifier = load_classifier(save(model.state_dict()))
    assert classifier.architecture == "test_resnet"
    same_logits(save(model.state_dict()), model)
    said = next(decision for decision in classifier.decisions if decision.what == "architecture")
    assert "shapes and order are exactly these" in said.why
    assert said.conflict


@pytest.mark.parametrize("arch", [None, "test_efficientnet"])
def test_foreign_names_in_order(arch: str | None, save) -> None:
    model = drawn(lambda: timm.create_model("test_efficientnet", num_classes=3))
    foreign = renamed(model.state_dict(), lambda name: f"_{name.replace('conv', 'cnv').replace('bn', 'norm_')}")
    same_logits(save(foreign), model, arch=arch)


def test_an_order_that_is_another_is_refused(save) -> None:
    model = drawn(lambda: timm.create_model("test_efficientnet", num_classes=3))
    foreign = list(renamed(model.state_dict(), lambda name: f"_{name.replace('conv', 'cnv')}").items())
    with pytest.raises(CheckpointError):
        load_classifier(save(OrderedDict(foreign[::-1])))


def densenet(name: str) -> str:
    return re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name)


def convnext(name: str) -> str:
    for pattern, old in (
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d)\.blocks\.", r"stages.\1."),
        (r"conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"mlp\.grn\.weight", "grn.gamma"),
        (r"mlp\.grn\.bias", "grn.beta"),
        (r"^head\.norm\.", "norm."),
        (r"^head\.fc\.", "head."),
    ):
        name = re.sub(pattern, old, name)
    return name


def swin(name: str) -> str:
    name = re.sub(r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name)
    return name.replace("head.fc.", "head.")


PAPERS: dict[str, tuple[Callable[[], nn.Module], Callable[[str], str], int]] = {
    "densenet": (lambda: tv("densenet121", num_classes=3), densenet, 64),
    "convnext": (lambda: timm.create_model("convnext_atto", num_classes=3, depths=(2, 2, 6, 2)), convnext, 64),
    "swin": (lambda: timm.create_model("swin_tiny_patch4_window7_224", num_classes=3), swin, 224),
}


@pytest.mark.parametrize("name", PAPERS)
def test_names_of_papers_and_of_older_libraries(name: str, save) -> None:
    build, rename, size = PAPERS[name]
    model = drawn(build)
    same_logits(save({"model": renamed(model.state_dict(), rename)}), model, size)


@pytest.mark.parametrize("arch", [None, "vit_small_patch14_dinov2"])
def test_dinov2s_token_of_masked_patches_is_dropped(arch: str | None, save) -> None:
    model = drawn(lambda: timm.create_model("vit_small_patch14_dinov2", num_classes=3, img_size=56))
    state = {**model.state_dict(), "mask_token": torch.zeros(1, 384)}
    same_logits(save(state), model, 56, arch=arch)


def test_a_single_tensor_that_differs_is_named(save) -> None:
    state = {**tv("resnet18", num_classes=3).state_dict(), "conv1.weight": torch.ones(64, 3, 3, 3)}
    with pytest.raises(CheckpointError) as caught:
        load_classifier(save(state))
    assert "'conv1.weight' is 64x3x3x3, not 64x3x7x7" in (caught.value.hint or "")
    assert "leave no trace" in (caught.value.hint or "")
