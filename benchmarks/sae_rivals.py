"""The autoencoders that `sae.py` measures against, each as its users would write it, on the same tensors.

The two libraries bring many dependencies with versions of their own, so they are not an extra of this package:

    pip install --no-deps overcomplete==0.3.0 dictionary-learning==0.1.0

and then what their imports ask for (einops, scikit-learn, scikit-image, opencv-python-headless, matplotlib<3.9;
nnsight, datasets, wandb).
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from salve_audit.sae.activation import Activation
from salve_audit.sae.canonical import canonical_arrays
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.normalisation import Normalisation, identity_normalisation

Rival = Callable[[Tensor, int, int, int], TrainedSae]  # (acts, n_latents, k, epochs) -> the trained autoencoder
BATCH_SIZE = 1000


def canonical_sae(arrays: dict[str, Tensor], acts: Tensor, activation: Activation, variant: str) -> TrainedSae:
    """Weights (m, d), bias (m,), dictionary (m, d) and its bias (d,) in the form that all are measured in."""
    parameters = {name: value.detach()[None] for name, value in arrays.items()}
    normalisation: Normalisation = identity_normalisation(acts.shape[1])
    canonical = canonical_arrays(parameters, acts, normalisation, len(arrays["encoder_bias"]), activation)
    return TrainedSae(variant=variant, hyperparameters={}, activation=activation, **canonical)


def train_paper(acts: Tensor, n_latents: int, epochs: int, weight: float) -> TrainedSae:
    """docs/method.md §1: linear, Xavier, mse + λ mean|z|, Adam, batch 32 from a DataLoader, x 0.8 after every fifth."""
    torch.manual_seed(0)
    d = acts.shape[1]
    encoder, decoder = nn.Linear(d, n_latents), nn.Linear(n_latents, d)
    for layer in (encoder, decoder):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimiser, step_size=max(1, epochs // 5), gamma=0.8)
    loader = DataLoader(TensorDataset(acts), batch_size=32, shuffle=True)
    for _ in range(epochs):
        for (batch,) in loader:
            codes = encoder(batch)
            loss = nn.functional.mse_loss(decoder(codes), batch) + weight * codes.abs().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        scheduler.step()
    weights = {"encoder_weight": encoder.weight, "encoder_bias": encoder.bias}
    weights |= {"dictionary": decoder.weight.T, "decoder_bias": decoder.bias}
    return canonical_sae(weights, acts, Activation(), "paper")


def train_plain_loop(acts: Tensor, n_latents: int, k: int, epochs: int) -> TrainedSae:
    """The shortest good loop: activations in memory, dense products, torch.topk, fused Adam."""
    torch.manual_seed(0)
    d = acts.shape[1]
    rows = nn.functional.normalize(torch.randn(n_latents, d), dim=1)
    weights = {"encoder_weight": rows, "encoder_bias": torch.zeros(n_latents)}
    weights |= {"dictionary": rows.clone(), "decoder_bias": torch.zeros(d)}
    for value in weights.values():
        value.requires_grad_()
    optimiser = torch.optim.Adam(list(weights.values()), lr=1e-3, fused=True)
    for _ in range(epochs):
        for chosen in torch.randperm(len(acts)).split(BATCH_SIZE):
            batch = acts[chosen]
            pre = torch.addmm(weights["encoder_bias"], batch, weights["encoder_weight"].T).relu()
            top = pre.topk(k, dim=-1)
            codes = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
            unit = nn.functional.normalize(weights["dictionary"], dim=1)
            loss = (torch.addmm(weights["decoder_bias"], codes, unit) - batch).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    weights["dictionary"] = nn.functional.normalize(weights["dictionary"].detach(), dim=1)
    return canonical_sae(weights, acts, Activation("topk", k=k), "plain")


def train_overcomplete(acts: Tensor, n_latents: int, k: int, epochs: int) -> TrainedSae:
    """overcomplete 0.3.0: its TopKSAE with its default encoder and its own loop."""
    from overcomplete.sae import TopKSAE, train_sae

    def criterion(x: Tensor, x_hat: Tensor, pre_codes: Tensor, codes: Tensor, dictionary: Tensor) -> Tensor:
        return (x - x_hat).square().mean()

    torch.manual_seed(0)
    model = TopKSAE(acts.shape[1], nb_concepts=n_latents, top_k=k)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(acts), batch_size=BATCH_SIZE, shuffle=True)
    with contextlib.redirect_stdout(io.StringIO()):
        train_sae(model, loader, criterion, optimiser, nb_epochs=epochs)
    return _OtherSae(model.eval(), n_latents, k)  # type: ignore[return-value]


class _OtherSae:
    """Only what measuring needs: its default encoder has a batch norm and its codes are what it says they are."""

    def __init__(self, model: nn.Module, n_latents: int, k: int) -> None:
        self.model, self.n_latents, self.k = model, n_latents, k

    @torch.no_grad()
    def encode(self, acts: np.ndarray) -> np.ndarray:
        return self.model.encode(torch.from_numpy(acts))[1].numpy()

    @torch.no_grad()
    def decode(self, codes: np.ndarray) -> np.ndarray:
        return self.model.decode(torch.from_numpy(codes)).numpy()


def train_dictionary_learning(acts: Tensor, n_latents: int, k: int, epochs: int) -> TrainedSae:
    """dictionary-learning 0.1.0: its TopKTrainer, learning rate by its rule, warm-up over a twentieth of the steps."""
    from dictionary_learning.trainers.top_k import TopKTrainer

    steps = epochs * math.ceil(len(acts) / BATCH_SIZE)
    trainer = TopKTrainer(
        steps, acts.shape[1], n_latents, k, layer=0, lm_name="", warmup_steps=steps // 20, seed=0, device="cpu"
    )
    loader, step = DataLoader(TensorDataset(acts), batch_size=BATCH_SIZE, shuffle=True), 0
    for _ in range(epochs):
        for (batch,) in loader:
            trainer.update(step, batch)
            step += 1
    autoencoder, bias = trainer.ae, trainer.ae.b_dec.detach()
    weight = autoencoder.encoder.weight.detach()
    weights = {"encoder_weight": weight, "encoder_bias": autoencoder.encoder.bias.detach() - weight @ bias}
    weights |= {"dictionary": autoencoder.decoder.weight.detach().T, "decoder_bias": bias}
    return canonical_sae(weights, acts, Activation("topk", k=k), "dictionary-learning")


RIVALS: dict[str, Rival] = {
    "plain loop": train_plain_loop,
    "overcomplete 0.3.0": train_overcomplete,
    "dictionary-learning 0.1.0": train_dictionary_learning,
}
