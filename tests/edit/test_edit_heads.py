"""An edited head written into every form of final layer: the network then gives the edited head's logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from salve_audit.edit.apply import EditedHead
from salve_audit.edit.tensors import unfold
from salve_audit.errors import HeadError, UsageError
from salve_audit.inputs.labels.label import cut_label
from salve_audit.inputs.model.checkpoint import load_classifier
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.reader import ENDINGS
from salve_audit.inputs.model.head.trace import trace
from salve_audit.interventions.affine import AffineHead
from salve_audit.interventions.context import float64_head

HEADS = Path(__file__).resolve().parents[1] / "models" / "heads.py"
LINEAR = ["conv_before_pool", "conv_after_pool", "tokens", "two_heads", "probabilities", "mlp", "distilled"]


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Classifier]:
    """The network that a function of tests/models/heads.py returns, saved and loaded."""

    def make(name: str) -> Classifier:
        namespace: dict = {"__name__": "heads"}
        exec(compile(HEADS.read_text(), str(HEADS), "exec"), namespace)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = namespace[name]()
        torch.save(model.state_dict(), tmp_path / "model.pt")
        return load_classifier(tmp_path / "model.pt", f"{HEADS}:{name}")

    return make


def batch() -> torch.Tensor:
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def change(head: AffineHead, bias: bool = True) -> AffineHead:
    """Some weights scaled, some taken away, others left alone."""
    rng = np.random.default_rng(2)
    scale = rng.uniform(0, 2, size=head.weight.shape[1])
    scale[::3], scale[1::3] = 1.0, 0.0
    shift = rng.normal(size=head.bias.shape) if bias else 0.0
    return AffineHead(head.weight * scale, head.bias + shift)


def acts_of(classifier: Classifier, images: torch.Tensor) -> np.ndarray:
    traced = trace(classifier.model, classifier.reader.modules, images, "model")
    inputs = {name: calls.inputs for name, calls in traced.calls.items()}
    return classifier.reader.read(inputs, len(images), "model").double().numpy()


def outputs_with(classifier: Classifier, values: dict[str, np.ndarray], images: torch.Tensor) -> torch.Tensor:
    state = classifier.model.state_dict()
    for name, value in values.items():
        assert value.shape == tuple(state[name].shape)
        state[name] = torch.from_numpy(value).float()
    classifier.model.load_state_dict(state)
    return trace(classifier.model, (), images, "model").output


@pytest.mark.parametrize("name", LINEAR)
def test_of_several_outputs(name: str, load: Callable) -> None:
    classifier, images = load(name), batch()
    acts, before = acts_of(classifier, images), float64_head(classifier.reader.fold(classifier.model))
    own = {key: value.clone() for key, value in classifier.model.state_dict().items()}
    after = change(before)
    values = unfold(classifier, EditedHead(before, after, ()), None)
    expected = ENDINGS[classifier.reader.ending](torch.from_numpy(after.logits(acts)))
    torch.testing.assert_close(outputs_with(classifier, values, images), expected.float(), rtol=1e-4, atol=1e-5)
    n_unchanged = sum(
        int((torch.from_numpy(value).float() == own[key]).sum()) for key, value in values.items() if "weight" in key
    )
    d = sum(own[key].numel() for key in values if "weight" in key) // len(before.weight)
    assert n_unchanged >= len(before.weight) * (d // 3)  # what the edit leaves alone keeps its bits


@pytest.mark.parametrize("name", ["one_output", "one_probability"])
def test_of_one_output(name: str, load: Callable) -> None:
    """Audited as two classes; an edit of only one of the two rows moves the difference."""
    classifier, images = load(name), batch()
    acts, before = acts_of(classifier, images), float64_head(classifier.reader.fold(classifier.model))
    weight, bias = before.weight.copy(), before.bias.copy()
    weight[1] *= 0.25
    bias[1] -= 1
    after = AffineHead(weight, bias)
    values = unfold(classifier, EditedHead(before, after, ()), None)
    logits = after.logits(acts)
    expected = ENDINGS[classifier.reader.ending](torch.from_numpy(logits[:, 1:] - logits[:, :1])).float()
    torch.testing.assert_close(outputs_with(classifier, values, images), expected, rtol=1e-4, atol=1e-5)


def test_of_one_label_among_several(load: Callable) -> None:
    classifier, images = load("labels"), batch()
    plain = trace(classifier.model, (), images, "model").output.clone()
    acts = acts_of(classifier, images)
    before = float64_head(cut_label(classifier.reader.fold(classifier.model), 1))
    after = change(before)
    values = unfold(classifier, EditedHead(before, after, ()), 1)
    outputs, logits = outputs_with(classifier, values, images), after.logits(acts)
    torch.testing.assert_close(outputs[:, 1], torch.from_numpy(logits[:, 1] - logits[:, 0]).sigmoid().float())
    assert torch.equal(outputs[:, [0, 2]], plain[:, [0, 2]])


def test_a_head_without_bias(load: Callable) -> None:
    classifier, images = load("no_bias"), batch()
    acts, before = acts_of(classifier, images), float64_head(classifier.reader.fold(classifier.model))
    with pytest.raises(HeadError, match=r"its head '2' has no bias, and this edit changes the bias$"):
        unfold(classifier, EditedHead(before, change(before), ()), None)
    after = change(before, bias=False)
    values = unfold(classifier, EditedHead(before, after, ()), None)
    assert list(values) == ["2.weight"]
    expected = torch.from_numpy(after.logits(acts)).float()
    torch.testing.assert_close(outputs_with(classifier, values, images), expected)


@pytest.mark.parametrize("name", ["cosine", "normed"])
def test_a_head_that_compares_directions_is_refused(name: str, load: Callable) -> None:
    classifier = load(name)
    before = float64_head(classifier.reader.fold(classifier.model))
    with pytest.raises(HeadError, match="compares directions: the length of its rows is fixed, edits change it"):
        unfold(classifier, EditedHead(before, change(before), ()), None)


def test_an_edit_that_changes_nothing(load: Callable) -> None:
    classifier = load("tokens")
    before = float64_head(classifier.reader.fold(classifier.model))
    with pytest.raises(UsageError, match="changes nothing"):
        unfold(classifier, EditedHead(before, before, ()), None)
