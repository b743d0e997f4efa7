"""The final linear layer: found in any network, verified against its logits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from image_files import load_image
from torch import nn

from salve_audit.errors import CheckpointError, HeadError
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.head.reader import HeadReader
from salve_audit.inputs.model.head.search import find_head
from salve_audit.inputs.model.head.verification import verify_head
from salve_audit.inputs.model.transform import build_transform

HINT = "name the final linear layer with --head MODULE; the network must return its output unchanged"
SIZE = (3, 8, 8)


class Net(nn.Module):
    """Flatten, two linear layers, and what a test puts behind them."""

    def __init__(self, last: nn.Module | None = None) -> None:
        super().__init__()
        self.decoy = nn.Linear(4, 4)  # never used
        self.body = nn.Linear(192, 6)
        self.out = nn.Linear(6, 4)
        self.unused = nn.Linear(6, 4)
        self.last = last or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.out(torch.relu(self.body(x.flatten(1)))))


class Doubling(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


class InPlace(nn.Module):
    """Changes the head's own output tensor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)


@pytest.fixture
def classifier(save, tiny_state, tiny_arch):
    return load_classifier(save(tiny_state), tiny_arch)


def with_model(classifier, model: nn.Module, head: str):
    return dataclasses.replace(classifier, model=model.eval(), head_name=head, path=Path("model.pt"))


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", "fc"),
        ("vit_tiny_patch16_224", "head"),
        ("convnext_atto", "head.fc"),
        ("mobilenetv3_small_050", "classifier"),
    ],
)
def test_timm_networks_say_it(name: str, head: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=5)
    assert find_head(model, (3, 224, 224)).name == head


def test_a_single_linear_layer() -> None:
    assert find_head(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), SIZE) == HeadReader("linear", ("1",))


def test_traces_the_layer_whose_output_is_the_networks() -> None:
    assert find_head(Net().eval(), SIZE) == HeadReader("linear", ("out",))


def test_no_linear_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten())
    with pytest.raises(HeadError) as caught:
        find_head(model, SIZE)
    assert str(caught.value) == "model: no linear layer makes its output; it ends with '0' (Conv2d), '1' (Flatten)"
    assert caught.value.hint == HINT


@pytest.mark.parametrize("last", [nn.Softmax(dim=0), Doubling(), InPlace()])
def test_something_behind_the_head(last: nn.Module) -> None:
    with pytest.raises(HeadError) as caught:
        find_head(Net(last).eval(), SIZE)
    ends = f"it ends with 'out' (Linear), 'unused' (Linear), 'last' ({type(last).__name__})"
    assert str(caught.value) == f"model: no linear layer makes its output; {ends}"


@pytest.mark.parametrize(
    ("last", "ending", "per_label"),
    [
        (nn.Softmax(dim=1), "softmax", False),
        (nn.LogSoftmax(dim=1), "log-softmax", False),
        (nn.Sigmoid(), "sigmoid", True),
    ],
)
def test_what_the_network_does_with_its_logits(last: nn.Module, ending: str, per_label: bool) -> None:
    head = find_head(Net(last).eval(), SIZE)
    assert (head.name, head.ending, head.per_label) == ("out", ending, per_label)


def test_a_given_head_must_exist_and_make_the_logits() -> None:
    model = Net().eval()
    assert find_head(model, SIZE, head="out").name == "out"
    with pytest.raises(HeadError, match=r"^model: has no module 'outt'$") as caught:
        find_head(model, SIZE, head="outt")
    assert caught.value.hint == "linear layers there: out"
    with pytest.raises(HeadError, match=r"^model: its module 'last' is of type Identity, no linear layer$"):
        find_head(model, SIZE, head="last")
    with pytest.raises(HeadError, match=r"^model: its layer 'body' has 6 outputs, the network returns \(4,\)$"):
        find_head(model, SIZE, head="body")
    with pytest.raises(HeadError, match=r"^model: its layer 'unused' is not used in a forward pass$"):
        find_head(model, SIZE, head="unused")


def test_verification_returns_the_head_and_its_error(classifier) -> None:
    batch = torch.randn(9, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    head, error = verify_head(classifier, batch)
    assert 0 <= error < 1e-6
    assert np.array_equal(head.weight, classifier.head.weight.numpy())
    assert np.array_equal(head.bias, classifier.head.bias.numpy())
    assert (head.module, head.n_classes, head.d) == ("head", 3, 5)
    head.weight[:] = 0
    assert classifier.head.weight.abs().sum() > 0  # a copy: edits cannot reach the model


def test_a_head_without_bias(classifier) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4, bias=False))
    head, error = verify_head(with_model(classifier, model, "1"), torch.ones(2, *SIZE))
    assert np.array_equal(head.bias, np.zeros(4, np.float32))
    assert error < 1e-6


@pytest.mark.parametrize(
    ("model", "head", "why"),
    [
        (Net(), "unused", "its layer 'unused' is not used in a forward pass"),
        (
            nn.Sequential(nn.Flatten(2), nn.Linear(64, 4), nn.Flatten()),
            "1",
            "its layer '1' has 4 outputs, the network returns (12,)",
        ),
        (Net(), "body", "its layer 'body' has 6 outputs, the network returns (4,)"),
        (
            nn.Sequential(nn.Flatten(), *[nn.Linear(192, 192)] * 2),
            "1",
            "its layer '1' is used 2 times in a forward pass",
        ),
    ],
)
def test_layers_that_are_no_head(model: nn.Module, head: str, why: str, classifier) -> None:
    with pytest.raises(HeadError) as caught:
        verify_head(with_model(classifier, model, head), torch.ones(2, *SIZE))
    assert str(caught.value) == f"model.pt: {why}"
    assert caught.value.hint == HINT


@pytest.mark.parametrize("last", [Doubling(), InPlace()])
def test_a_scaled_output_is_no_verification(last: nn.Module, classifier) -> None:
    with pytest.raises(HeadError, match=r"^model.pt: its layer 'out' \(6 -> 4\) does not make the logits: 0.5 apart$"):
        verify_head(with_model(classifier, Net(last), "out"), torch.ones(2, *SIZE))


def test_the_first_part_of_a_tuple_is_the_logits(classifier) -> None:
    class Pair(Net):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return super().forward(x), x

    class Turned(Net):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, super().forward(x)

    assert verify_head(with_model(classifier, Pair(), "out"), torch.ones(2, *SIZE))[1] < 1e-4
    with pytest.raises(HeadError, match=r"^model.pt: the network returns \(2, 3, 8, 8\), expected logits"):
        verify_head(with_model(classifier, Turned(), "out"), torch.ones(2, *SIZE))


def test_a_failing_forward_pass(classifier) -> None:
    with pytest.raises(CheckpointError) as caught:
        verify_head(with_model(classifier, Net(), "out"), torch.ones(2, 3, 9, 9))
    text = str(caught.value)
    assert text.startswith("model.pt: a forward pass of 2 x 3 x 9 x 9 failed (RuntimeError: ")
    assert text.endswith("mat1 and mat2 shapes cannot be multiplied (2x243 and 192x6))")


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["resnet18_cifar10_64.pt", "vit_cifar10_32.pt", "resnet20-12fca82f.th"])
def test_verifies_the_real_heads_on_real_images(name: str, shared_data: Path, cifar10: Path) -> None:
    arch = (
        f"{Path(__file__).resolve().parents[1] / 'models' / 'resnet20.py'}:resnet20" if name.endswith(".th") else None
    )
    classifier = load_classifier(shared_data / name, arch)
    transform = build_transform(classifier.transform)
    files = sorted((cifar10 / "val" / "frog").iterdir())[:8]
    batch = torch.stack([transform(load_image(file)) for file in files])
    head, error = verify_head(classifier, batch)
    assert error < 1e-5
    assert head.n_classes == 10
    with torch.inference_mode():
        assert (classifier.model(batch).argmax(1) == 6).float().mean() >= 0.5  # frog is output 6
