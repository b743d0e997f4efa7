"""Forms of heads: the equations that fold each into one linear map, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from salve_audit.errors import HeadError
from salve_audit.inputs.model.head.forms import FORMS
from salve_audit.inputs.model.head.linear import LinearHead, fold_one_output
from salve_audit.inputs.model.head.reader import HeadReader
from salve_audit.inputs.model.head.search import find_head

SIZE = (3, 8, 8)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7), st.integers(1, 5), st.integers(0, 99)
)
def test_average_pooling_commutes_with_a_1x1_convolution(n: int, d: int, h: int, w: int, k: int, seed: int) -> None:
    """mean_p (W x_p + b) = W mean_p x_p + b, in float64 against the model's own order of operations."""
    layer, maps = nn.Conv2d(d, k, 1).double(), randn(n, d, h, w, seed=seed).double()
    with torch.no_grad():
        before = F.adaptive_avg_pool2d(layer(maps), 1).flatten(1)
        after = layer(F.adaptive_avg_pool2d(maps, 1)).flatten(1)
        torch.testing.assert_close(before, after, rtol=1e-12, atol=1e-12)
        form = FORMS["convolution"]
        folded = form.read(maps.float()) @ form.weigh(layer).T + form.offset(layer, k)
    torch.testing.assert_close(folded, before.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 3, 3, padding=1),
        nn.Conv2d(4, 3, 1, stride=2),
        nn.Conv2d(4, 2, 1, groups=2),
        nn.Conv2d(4, 3, 1, padding=1),
    ],
)
def test_other_convolutions_are_no_heads(layer: nn.Module) -> None:
    assert not FORMS["convolution"].accepts(layer)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(HeadError, match="no linear layer makes its output"):
        find_head(model, SIZE)


class CosineLinear(nn.Linear):
    """Keeps a bias it may not use, as subclasses of nn.Linear do."""

    scale = 7.0

    def __init__(self, d: int, k: int, used: bool) -> None:
        super().__init__(d, k)
        self.used = used

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.scale * F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))
        return logits + self.bias if self.used else logits


@pytest.mark.parametrize("used", [True, False])
def test_a_cosine_layer_with_a_bias_used_or_not(used: bool) -> None:
    model = nn.Sequential(nn.Flatten(), CosineLinear(192, 4, used)).eval()
    found_head = find_head(model, SIZE)
    assert (found_head.form, found_head.biased, found_head.scale) == ("cosine", used, pytest.approx(7.0, rel=1e-6))
    images = randn(6, *SIZE)
    head, acts = found_head.fold(model), F.normalize(images.flatten(1), dim=1).numpy()
    with torch.no_grad():
        np.testing.assert_allclose(acts @ head.weight.T + head.bias, model(images), atol=1e-5)


class Distances(CosineLinear):
    """Almost a cosine: the factor depends on the image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.norm(dim=1, keepdim=True).sqrt() * super().forward(x)


def test_a_factor_that_changes_from_image_to_image_is_no_cosine_head() -> None:
    with pytest.raises(HeadError, match="no linear layer makes its output"):
        find_head(nn.Sequential(nn.Flatten(), Distances(192, 4, used=False)).eval(), SIZE)


class Averaged(nn.Module):
    def __init__(self, n: int, weights: tuple[float, ...] | None = None) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(192, 4) for _ in range(n))
        self.weights = weights or (1 / n,) * n

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return sum(w * head(x) for w, head in zip(self.weights, self.heads, strict=True))


@pytest.mark.parametrize("n", [2, 3])
def test_averaged_heads_are_laid_side_by_side(n: int) -> None:
    model = Averaged(n).eval()
    found_head = find_head(model, SIZE)
    assert found_head.modules == tuple(f"heads.{i}" for i in range(n))
    head, x = found_head.fold(model), randn(5, *SIZE)
    assert head.weight.shape == (4, 192 * n)
    acts = torch.cat([x.flatten(1)] * n, dim=1).numpy()
    with torch.no_grad():
        np.testing.assert_allclose(acts @ head.weight.T + head.bias, model(x), atol=1e-5)


def test_an_uneven_average_is_refused() -> None:
    with pytest.raises(HeadError, match="no linear layer makes its output"):
        find_head(Averaged(2, (0.7, 0.3)).eval(), SIZE)


def test_a_weight_normalised_linear_layer_is_read_as_it_is_used() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(192, 4))
    with torch.no_grad():
        layer.parametrizations.weight.original0 *= 3
    model = nn.Sequential(nn.Flatten(), layer).eval()
    found_head = find_head(model, SIZE)
    assert found_head.form == "linear"
    assert np.array_equal(found_head.fold(model).weight, layer.weight.detach().numpy())


def test_one_output_keeps_every_decision() -> None:
    rng = np.random.default_rng(0)
    acts = rng.normal(size=(50, 6)).astype(np.float32)
    single_output = LinearHead(rng.normal(size=(1, 6)).astype(np.float32), np.array([0.3], np.float32), "fc")
    folded = fold_one_output(single_output)
    own = (acts @ single_output.weight.T + single_output.bias)[:, 0]
    logits = acts @ folded.weight.T + folded.bias
    np.testing.assert_array_equal(logits.argmax(1) == 1, own > 0)
    softmax = torch.from_numpy(logits).softmax(1)[:, 1]
    np.testing.assert_allclose(softmax, torch.from_numpy(own).sigmoid(), rtol=1e-5)


def test_the_folded_output_has_the_thresholds_of_the_row_against_zero() -> None:
    """Rows ±w/2 against rows 0 and w: class 1 has the same thresholds, class 0 has them at all."""
    from salve_audit import thresholds

    rng = np.random.default_rng(1)
    acts, w = np.abs(rng.normal(size=(40, 6))), rng.normal(size=6)
    bias, coupling = np.array([0.2]), np.abs(rng.normal(size=6))
    both = fold_one_output(LinearHead(w[None].astype(np.float32), bias.astype(np.float32), "fc"))
    zero = np.stack([np.zeros(6), w.astype(np.float32)])
    folded = thresholds(acts, both.weight, both.bias, coupling, 1)
    against = thresholds(acts, zero, np.array([0.0, np.float32(0.2)]), coupling, 1)
    for name in ("analytical", "numerical", "flip"):
        np.testing.assert_allclose(getattr(folded, name), getattr(against, name), rtol=1e-6)
    assert np.isfinite(thresholds(acts, both.weight, both.bias, coupling, 0).numerical).any()
    assert np.isnan(thresholds(acts, zero, np.zeros(2), coupling, 0).numerical).all()


def test_the_cache_key_keeps_plain_heads_and_tells_others_apart() -> None:
    assert HeadReader("linear", ("fc",)).key == "fc"
    keys = {HeadReader(form, ("fc",)).key for form in FORMS}
    assert len(keys) == len(FORMS)
