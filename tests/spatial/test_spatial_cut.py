"""The network cut at a layer: what is kept, what is run again, and its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from salve_audit.errors import LayerError
from salve_audit.inputs.model.head.reader import HeadReader
from salve_audit.spatial.cut import CutNetwork
from salve_audit.spatial.layers import SpatialLayer
from salve_audit.spatial.layout import GridLayout
from salve_audit.spatial.map_layers import last_spatial_layer

SIZE = (32, 32)


class Beside(nn.Module):
    """Reads the image, an earlier module and an activation function that is used before and after the layer."""

    def __init__(self, noisy: bool = False) -> None:
        super().__init__()
        self.early, self.unread, self.layer = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, 1, 1)
        self.relu, self.head, self.noisy = nn.ReLU(inplace=True), nn.Linear(4, 3), noisy

    def forward(self, x: Tensor) -> Tensor:
        self.unread(x)
        early = self.relu(self.early(x))
        y = self.layer(early)
        y += early
        y = self.relu(y) * x.mean((1, 2, 3))[:, None, None, None]
        return self.head(y.mean((2, 3)) + (torch.rand(1) if self.noisy else 0))


def cut_beside(noisy: bool = False) -> tuple[nn.Module, CutNetwork]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Beside(noisy).eval()
    layer = SpatialLayer("layer", GridLayout("channels-first", 32, 32, 4), 3)
    return model, CutNetwork(model, layer, HeadReader("linear", ("head",)))


def test_what_passes_beside_the_layer_is_kept(images: Any) -> None:
    prepared = images(SIZE, 4)
    model, cut = cut_beside()
    with torch.no_grad():
        expected = model(prepared)
    passed = cut.run(prepared)
    assert not cut.is_bottleneck(prepared)
    assert set(passed.before) == {"", "relu"}, "the image and the early map; nothing that nobody reads"
    rows = torch.tensor([3, 1, 1, 0, 2])
    torch.testing.assert_close(cut.tail(passed, passed.output[rows], rows), expected[rows])
    torch.testing.assert_close(passed.logits, expected)
    assert cut.verify(prepared) < 1e-6


def test_only_the_rest_runs_again(timm_classifier: Any, images: Any) -> None:
    classifier, prepared = timm_classifier("resnet18", (64, 64)), images((64, 64))
    layer = last_spatial_layer(classifier, prepared, "layer3")
    cut = CutNetwork(classifier.model, layer, classifier.reader)
    passed, ran = cut.run(prepared), []
    for name, module in cut._model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):  # a conv that does nothing but give back is not run
            original = module._conv_forward if isinstance(module, nn.Conv2d) else None
            if original is not None:
                module._conv_forward = _note(ran, name, original)
    cut.tail(passed, passed.output, torch.arange(len(prepared)))
    assert ran
    assert all(name.startswith("layer4.") for name in ran)


def _note(ran: list[str], name: str, forward: Any) -> Any:
    def noted(*arguments: Any) -> Any:
        ran.append(name)
        return forward(*arguments)

    return noted


def test_the_tail_is_differentiable(timm_classifier: Any, images: Any) -> None:
    """Its gradient is that of finite differences, with a network in float64 whose logits are given in float32."""
    classifier = timm_classifier("vit_tiny_patch16_224", SIZE, img_size=32, patch_size=8, depth=2)
    prepared = images(SIZE, 2)
    layer = last_spatial_layer(classifier, prepared)
    cut = CutNetwork(classifier.model.double(), layer, classifier.reader)
    passed, rows = cut.run(prepared.double()), torch.tensor([1])
    output = passed.output[rows].clone().requires_grad_()
    cut.tail(passed, output, rows)[0, 2].backward()
    assert output.grad is not None
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def compute_slope(step: float) -> float:
        with torch.no_grad():
            ends = [float(cut.tail(passed, output + sign * step * direction, rows)[0, 2]) for sign in (1, -1)]
        return (ends[0] - ends[1]) / (2 * step)

    step = 2e-3
    slope = (4 * compute_slope(step) - compute_slope(2 * step)) / 3  # what is left is of the order of step⁴, below 1e-5
    rounding = 2 * torch.finfo(torch.float32).eps * float(passed.logits.abs().max()) / step
    assert float((output.grad * direction).sum()) == pytest.approx(slope, rel=0, abs=rounding)


def test_a_network_that_never_repeats_itself_is_refused(images: Any) -> None:
    _, cut = cut_beside(noisy=True)
    with torch.random.fork_rng(devices=[]), pytest.raises(LayerError, match="does not give the head's inputs again"):
        cut.run(images(SIZE))


def test_a_layer_that_does_not_run_is_refused(images: Any) -> None:
    model, _ = cut_beside()
    model.add_module("spare", nn.Conv2d(3, 4, 1))
    layer = SpatialLayer("spare", GridLayout("channels-first", 32, 32, 4), 3)
    with pytest.raises(LayerError, match="'spare' is not used in a forward pass"):
        CutNetwork(model, layer, HeadReader("linear", ("head",))).run(images(SIZE))
