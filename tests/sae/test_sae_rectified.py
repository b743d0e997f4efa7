"""Losses with a penalty on what is above a threshold, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from salve_audit.sae.parameters import encode_linear
from salve_audit.sae.rectified import (
    BANDWIDTH,
    fold_gated,
    fold_jumprelu,
    gated_loss,
    gated_parameters,
    jumprelu_loss,
    jumprelu_parameters,
    relu_l1_loss,
    unit_parameters,
)


def make_problem(initialise, seed: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    acts = torch.randn(40, 5, generator=g, dtype=torch.float64)
    parameters = initialise(acts.float(), 7, [torch.Generator().manual_seed(s) for s in (0, 1)])
    moved = {name: value.double() + 0.3 * torch.randn(value.shape, generator=g) for name, value in parameters.items()}
    return moved, acts[:20].expand(2, -1, -1)


def one_seed(parameters: dict[str, torch.Tensor], s: int) -> dict[str, np.ndarray]:
    own = {name: value[s].detach().numpy() for name, value in parameters.items()}
    return {**own, "rows": own["dictionary"] / np.linalg.norm(own["dictionary"], axis=1, keepdims=True)}


def mse(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.square(x - y).mean())


def test_relu_l1_against_a_loop():
    parameters, acts = make_problem(unit_parameters)
    for s, loss in enumerate(relu_l1_loss(parameters, acts, 0.2)):
        own, total = one_seed(parameters, s), 0.0
        for x in acts[s].numpy():
            codes = np.maximum(own["encoder_weight"] @ x + own["encoder_bias"], 0)
            total += mse(codes @ own["rows"] + own["decoder_bias"], x) + 0.2 * codes.sum()
        assert loss.item() == pytest.approx(total / 20)


def test_gated_against_a_loop():
    parameters, acts = make_problem(gated_parameters)
    for s, loss in enumerate(gated_loss(parameters, acts, 0.2)):
        own, total = one_seed(parameters, s), 0.0
        for x in acts[s].numpy():
            gate = own["encoder_weight"] @ x + own["gate_bias"]
            magnitude = np.exp(own["log_magnitude"]) * (own["encoder_weight"] @ x) + own["encoder_bias"]
            codes = np.where(gate > 0, np.maximum(magnitude, 0), 0)
            opening = np.maximum(gate, 0)
            total += mse(codes @ own["rows"] + own["decoder_bias"], x) + 0.2 * opening.sum()
            total += mse(opening @ own["rows"] + own["decoder_bias"], x)
        assert loss.item() == pytest.approx(total / 20)


def test_a_gate_is_a_threshold():
    parameters, acts = make_problem(gated_parameters, seed=3)
    rest = {name: value[1:] for name, value in parameters.items()}
    plain, activation = fold_gated(rest, 0.1)
    shared = acts[1] @ rest["encoder_weight"][0].T
    magnitude = (shared * rest["log_magnitude"][0].exp() + rest["encoder_bias"][0]).relu()
    codes = magnitude * (shared + rest["gate_bias"][0] > 0)
    torch.testing.assert_close(activation.apply(encode_linear(plain, acts[1:])[0]), codes)
    assert (codes == 0).any()
    assert (codes != 0).any()


def test_the_auxiliary_decoder_of_the_gate_is_frozen():
    parameters, acts = make_problem(gated_parameters)
    parameters["encoder_bias"] = parameters["encoder_bias"] - 1e3  # no magnitude: only the gate's own terms are left
    leaves = {name: value.requires_grad_() for name, value in parameters.items()}
    gated_loss(leaves, acts, 0.2).sum().backward()
    assert leaves["dictionary"].grad.eq(0).all()
    assert leaves["gate_bias"].grad.ne(0).any()
    assert leaves["log_magnitude"].grad.eq(0).all()


def test_jumprelu_against_a_loop():
    parameters, acts = make_problem(jumprelu_parameters)
    parameters["threshold"][0, 2] = -0.7
    for s, loss in enumerate(jumprelu_loss(parameters, acts, 0.2)):
        own, total = one_seed(parameters, s), 0.0
        for x in acts[s].numpy():
            pre = own["encoder_weight"] @ x + own["encoder_bias"]
            fires = pre > np.maximum(own["threshold"], 0)
            total += mse((pre * fires) @ own["rows"] + own["decoder_bias"], x) + 0.2 * fires.sum()
        assert loss.item() == pytest.approx(total / 20)


def test_jumprelu_trains_its_threshold_itself_in_float32():
    """The parameter is θ: the file holds what was trained, and its gradient is the kernel's, not θ times that."""
    start = jumprelu_parameters(torch.randn(9, 5), 7, [torch.Generator().manual_seed(0)])
    assert start["threshold"].dtype == torch.float32
    folded = fold_jumprelu(start, 0.1)[1].threshold
    assert folded.dtype == np.float32
    assert folded.tolist() == start["threshold"][0].tolist()
    parameters, acts = make_problem(jumprelu_parameters)
    leaves = {name: value.requires_grad_() for name, value in parameters.items()}
    jumprelu_loss(leaves, acts, 0.2).sum().backward()
    for s in range(2):
        own, expected = one_seed(parameters, s), np.zeros(7)
        for x in acts[s].numpy():
            pre = own["encoder_weight"] @ x + own["encoder_bias"]
            positive = np.maximum(own["threshold"], 0)
            error = (pre * (pre > positive)) @ own["rows"] + own["decoder_bias"] - x
            near = np.abs(pre - positive) < BANDWIDTH / 2
            expected -= near / BANDWIDTH * (positive * (own["rows"] @ error) * 2 / 5 + 0.2) / 20
        np.testing.assert_allclose(leaves["threshold"].grad[s].numpy(), expected, rtol=1e-6, atol=1e-12)
        assert expected.any()


def test_a_threshold_below_zero_acts_as_zero_and_can_come_back():
    parameters, acts = make_problem(jumprelu_parameters)
    parameters["threshold"] = torch.full((2, 7), -0.01, dtype=torch.float64, requires_grad=True)
    jumprelu_loss(parameters, acts, 0.2).sum().backward()
    assert (parameters["threshold"].grad < 0).any()
    assert (fold_jumprelu(parameters, 0.2)[1].threshold == 0).all()


@pytest.mark.parametrize(
    ("loss", "initialise"),
    [(relu_l1_loss, unit_parameters), (gated_loss, gated_parameters), (jumprelu_loss, jumprelu_parameters)],
)
def test_norms_of_rows_do_not_matter(loss, initialise):
    parameters, acts = make_problem(initialise)
    scaled = {**parameters, "dictionary": parameters["dictionary"] * math.pi}
    torch.testing.assert_close(loss(scaled, acts, 0.2), loss(parameters, acts, 0.2))
