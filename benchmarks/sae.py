"""Autoencoders: time and quality of the training here beside the paper's recipe and two libraries, on the same tensors.

    python benchmarks/sae.py --acts ACTS.npz [--only paper,topk,seeds,auto,memory,gpu] [--paper-epochs 1000]
    python benchmarks/sae.py --model MODEL --data IMAGES

ACTS.npz holds fit_acts, fit_labels, audit_acts, audit_labels, head_weight and head_bias. Everything trains on the fit
split (here less the 15 % that choose) and is measured on the audit split. `topk` wants the libraries of
`sae_rivals.py`; what is missing is named and left out. Run it on an otherwise idle machine: ratios of one run compare.

* paper: docs/method.md §1 as its text has it, 1000 epochs of batches of 32 from a DataLoader, against ``linear-l1`` at
  a λ that reconstructs no worse. The raw loss is not comparable, R² and mean |z| in canonical form are.
* topk: k = 32 of 2,048 latents; then what each idea buys, and what share of the time is arithmetic that no idea saves
  (the product that finds the largest codes).
* seeds: five autoencoders at once against one.
* auto: the whole default training, stability included.
* memory: 1.3 million activations of 768 in a file of 4 GB, written to a temporary folder.
* gpu: steps on a graphics card as a share of what its memory and its arithmetic allow.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from sae_limits import measure_card, measure_memory
from sae_rivals import BATCH_SIZE, RIVALS, train_paper

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.metrics import measure_quality
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.normalisation import fit_normalisation, normalise
from salve_audit.sae.problem import Problem, prepare_problem
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae

SECTIONS = ("paper", "topk", "seeds", "auto", "memory", "gpu")
N_LATENTS, K, EPOCHS = 2048, 32, 100  # of the libraries
OWN_EPOCHS, OWN_RATE = 40, 4e-3  # to no worse R²
PAPER_WEIGHT, OWN_WEIGHT = 1e-3, 0.02


@dataclass(frozen=True)
class World:
    """Activations, labels and the head they feed."""

    fit: np.ndarray
    fit_labels: np.ndarray
    audit: np.ndarray
    audit_labels: np.ndarray
    head: LinearHead

    def quality(self, sae: TrainedSae) -> str:
        """On the audit split."""
        q = measure_quality(sae, self.audit, self.audit_labels, self.head)
        accuracy = f"accuracy kept {100 * q.accuracy_kept:6.2f} %"
        return f"R2 {q.r2:.4f}  L0 {q.l0:6.2f}  mean|z| {q.mean_abs_code:.4f}  dead {q.n_dead:4d}  {accuracy}"

    def normalised(self) -> torch.Tensor:
        """What the libraries get: mean removed, one scale."""
        rows = np.arange(len(self.fit))
        return normalise(self.fit, rows, fit_normalisation(self.fit, rows), "cpu")


def load_world(path: Path) -> World:
    with np.load(path) as arrays:
        head = LinearHead(arrays["head_weight"], arrays["head_bias"], "head")
        return World(arrays["fit_acts"], arrays["fit_labels"], arrays["audit_acts"], arrays["audit_labels"], head)


def compute_world(model: str, data: str) -> World:
    from salve_audit.audit.progress import Reporter
    from salve_audit.audit.subject import load_subject
    from salve_audit.config import AuditConfig

    activations = load_subject(AuditConfig(model=model, data=data), Reporter()).activations
    return World(
        activations.fit.acts, activations.fit.labels, activations.audit.acts, activations.audit.labels, activations.head
    )


def timed(name: str, work: Callable[[], TrainedSae], world: World, against: float | None = None) -> float:
    """Prints a row of the table; seconds."""
    start = time.perf_counter()
    sae = work()
    seconds = time.perf_counter() - start
    ratio = "" if against is None else f"  {against / seconds:6.1f} x"
    print(f"{name:34s} {seconds:8.2f} s  {world.quality(sae)}{ratio}", flush=True)
    return seconds


def train_one(world: World, **settings: object) -> TrainedSae:
    """The stage at one sparsity and seed: hold out, normalise, train, canonical form, measure."""
    chosen = SaeSettings(n_seeds=1, **settings)  # type: ignore[arg-type]
    return train_sae(world.fit, world.fit_labels, world.head, chosen).sae


def compare_paper(world: World, epochs: int) -> None:
    acts = torch.from_numpy(np.array(world.fit, dtype=np.float32))
    n_latents = prepare(world, "paper").n_latents
    seconds = timed(f"paper, {epochs} epochs", lambda: train_paper(acts, n_latents, epochs, PAPER_WEIGHT), world)
    if epochs != 1000:
        seconds *= 1000 / epochs
        print(f"{'  the same, 1000 epochs (by proportion)':34s} {seconds:8.2f} s")
    timed("linear-l1", lambda: train_one(world, variant="linear-l1", sparsity=OWN_WEIGHT), world, seconds)


def compare_topk(world: World) -> None:
    acts, times = world.normalised(), dict[str, float]()
    for name, rival in RIVALS.items():
        try:
            start = time.perf_counter()
            sae = rival(acts, N_LATENTS, K, EPOCHS)
        except ImportError as error:
            print(f"{name:34s} not installed ({error.name}): see benchmarks/sae_rivals.py")
            continue
        times[name] = time.perf_counter() - start
        print(f"{name:34s} {times[name]:8.2f} s  {_normalised_quality(world, sae)}", flush=True)
    fastest = min((seconds for name, seconds in times.items() if name != "plain loop"), default=None)
    settings = {
        "variant": "topk",
        "n_latents": N_LATENTS,
        "sparsity": K,
        "epochs": OWN_EPOCHS,
        "learning_rate": OWN_RATE,
    }
    timed("salve-audit topk", lambda: train_one(world, **settings), world, fastest)
    ablate(world, settings)


def _normalised_quality(world: World, sae: TrainedSae) -> str:
    """R² and L0 of an autoencoder of normalised activations: both are the same in any units."""
    mean_and_scale = fit_normalisation(world.fit, np.arange(len(world.fit)))
    acts = ((world.audit - mean_and_scale.mean) / mean_and_scale.scale).astype(np.float32)
    codes = sae.encode(acts)
    r2 = 1 - np.square(sae.decode(codes) - acts).sum() / np.square(acts - acts.mean(0)).sum()
    active = codes != 0
    return f"R2 {r2:.4f}  L0 {active.sum(1).mean():6.2f}  dead {(~active.any(0)).sum():4d}"


@contextlib.contextmanager
def without(*ideas: str) -> Iterator[None]:
    """The training with some of its ideas removed."""
    targets = {
        "bf16": ["products.multiplies_bfloat16"],
        "lists": ["topk.pays_to_list", "batchtopk.pays_to_list"],
        "heap": ["training._widen_heap"],
    }
    with contextlib.ExitStack() as stack:
        for idea in ideas:
            for target in targets[idea]:
                stack.enter_context(mock.patch(f"salve_audit.sae.{target}", return_value=False))
        yield


def ablate(world: World, settings: dict[str, object]) -> None:
    """A training of two epochs of batches as large as the libraries', with and without each idea."""
    problem = replace(prepare(world, "topk", N_LATENTS), n_seeds=1)
    recipe = replace(problem.recipe, epochs=2, batch_size=BATCH_SIZE, most_steps=None)
    per_epoch = {}
    for ideas in ((), ("bf16",), ("heap",), ("lists",), ("lists", "bf16", "heap")):
        with without(*ideas):
            problem.train_from(None, K, replace(recipe, epochs=1), 1)
            start = time.perf_counter()
            problem.train_from(None, K, recipe, 1)
            per_epoch[ideas] = (time.perf_counter() - start) / 2
        name = "all ideas" if not ideas else "without " + ", ".join(ideas)
        print(f"  an epoch of batches of {BATCH_SIZE}, {name:30s} {per_epoch[ideas]:7.3f} s")
    acts = problem.train_acts[:BATCH_SIZE]
    weight = torch.randn(N_LATENTS, acts.shape[1])
    n_steps = -(-len(problem.train_acts) // BATCH_SIZE)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        floor = n_steps * _seconds_of(acts.to(dtype), weight.to(dtype))
        print(f"  the one full product in {name:9s}: {floor:.3f} s an epoch, {100 * floor / per_epoch[()]:.0f} % of it")
    print(f"  epochs: {settings['epochs']} of batches of 512 here, {EPOCHS} of batches of {BATCH_SIZE} there")


def _seconds_of(left: torch.Tensor, right: torch.Tensor, repeats: int = 20) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        left @ right.T
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def prepare(world: World, variant: str, n_latents: int | None = None, device: str = "cpu") -> Problem:
    settings = SaeSettings(variant=variant, n_latents=n_latents, device=device)
    return prepare_problem(world.fit, world.fit_labels, world.head, settings)


def compare_seeds(world: World) -> None:
    """A training in full as the stage does it (merging of duplicates and measuring included)."""
    for variant in ("linear-l1", "relu-l1", "topk", "batchtopk", "jumprelu", "gated"):
        for n_latents in (64, 256):
            problem = prepare(world, variant, n_latents)
            sparsity, seconds = 8.0 if problem.variant.counted else 1.0, []
            problem.train_from(None, sparsity, replace(problem.recipe, epochs=1, most_steps=None), 5)
            for n_seeds in (1, 5):
                start = time.perf_counter()
                replace(problem, n_seeds=n_seeds).visit_seeds(sparsity, None)
                seconds.append(time.perf_counter() - start)
            ratio = f"1 seed {seconds[0]:6.2f} s  5 {seconds[1]:6.2f} s  {seconds[1] / seconds[0]:.2f} x"
            print(f"{variant:10s} m {n_latents:4d}  {ratio}", flush=True)


def time_auto(world: World) -> None:
    start = time.perf_counter()
    info = train_sae(world.fit, world.fit_labels, world.head, SaeSettings()).info
    stability = "" if info.stability is None else f", {100 * info.stability.share_matched:.0f} % matched over seeds"
    print(
        f"auto {time.perf_counter() - start:.1f} s: {info.variant}, {info.n_latents} latents, R2 {info.r2:.4f}, "
        f"L0 {info.l0:.2f}{stability}; {len(info.frontier)} points"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--acts", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--paper-epochs", type=int, default=1000)
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if not options.acts and not (options.model and options.data) and chosen != ["memory"]:
        parser.error("give --acts, or --model and --data")
    world = None
    if options.acts or options.model:
        world = load_world(options.acts) if options.acts else compute_world(options.model, options.data)
    sections: dict[str, Callable[[], None]] = {
        "paper": lambda: compare_paper(world, options.paper_epochs),
        "topk": lambda: compare_topk(world),
        "seeds": lambda: compare_seeds(world),
        "auto": lambda: time_auto(world),
        "memory": measure_memory,
        "gpu": lambda: measure_card(world.fit),
    }
    for name in chosen:
        print(f"\n{name}, {torch.get_num_threads()} threads")
        sections[name]()


if __name__ == "__main__":
    main()
