"""What `supervised.py` compares on: cached activations, and drawn worlds whose cues are attributes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from salve_audit.demo.images import DrawnSplit, draw, draw_split
from salve_audit.demo.training import NetworkRecipe, normalise_pixels, one_thread, train_network
from salve_audit.demo.world import Cue, Planted, PlantedClassSpec, World, demo_world
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.sae.supervised_concepts import Concepts, class_concepts

CUES = ("disk", "flag", "ring")
SHARES = {"a": (0.8, 0.8, 0.2), "b": (0.8, 0.2, 0.8), "c": (0.2, 0.8, 0.8), "d": (0.3, 0.3, 0.3)}


@dataclass(frozen=True)
class Part:
    """Samples with all that is known of them: acts (n, d), labels (n,), concepts (n, c)."""

    acts: np.ndarray
    labels: np.ndarray
    concepts: Concepts


@dataclass(frozen=True)
class Subject:
    name: str
    fit: Part
    held: Part
    head: LinearHead


def mixed_world() -> World:
    """Four classes that differ only in how often they show three cues: every combination occurs in each."""
    known = {cue.name: cue for cue in demo_world().cues}
    cues: tuple[Cue, ...] = tuple(known[name] for name in CUES)
    classes = tuple(
        PlantedClassSpec(name, tuple(Planted(cue, share) for cue, share in zip(CUES, shares, strict=True)))
        for name, shares in SHARES.items()
    )
    return World("mixed", 48, cues, classes)


def draw_subject(world: World, n_train: int, n_val: int) -> Subject:
    """A world's images, the demo's network trained on them, and its activations; cues are attributes."""
    start = time.perf_counter()
    splits = {name: draw_split(world, name, n, 0) for name, n in (("train", n_train), ("val", n_val))}
    model = train_network(splits["train"].pixels, splits["train"].labels, NetworkRecipe(), 0)
    layer = model.get_classifier()
    head = LinearHead(layer.weight.detach().numpy(), layer.bias.detach().numpy(), "fc")
    parts = [describe_part(world, split, model) for split in splits.values()]
    names = parts[0].concepts.at(np.arange(len(parts[0].labels))).names
    parts = [Part(part.acts, part.labels, choose_concepts(part.concepts, names)) for part in parts]
    right = (parts[1].acts @ head.weight.T + head.bias).argmax(1) == parts[1].labels
    print(f"\nworld {world.name!r}: {time.perf_counter() - start:.1f} s to draw and train, accuracy {right.mean():.3f}")
    return Subject(f"world {world.name!r}", parts[0], parts[1], head)


def describe_part(world: World, drawn: DrawnSplit, model: torch.nn.Module) -> Part:
    with torch.inference_mode(), one_thread():
        pixels = torch.from_numpy(drawn.pixels)
        pooled = [model.forward_features(normalise_pixels(some)).mean((2, 3)) for some in pixels.split(256)]
    names = tuple(cue.name for cue in world.cues)
    shown = np.array([[name in draw(world, key).masks for name in names] for key in drawn.keys])
    concepts = class_concepts(drawn.labels, world.class_names).beside(Concepts(names, shown))
    return Part(torch.cat(pooled).numpy(), drawn.labels, concepts)


def choose_concepts(concepts: Concepts, names: Sequence[str]) -> Concepts:
    """The concepts that the fit split distinguishes, twins under their common name."""
    columns = [concepts.names.index(name.split(" = ")[0]) for name in names]
    return Concepts(tuple(names), concepts.present[:, columns])


def read_subject(path: str) -> Subject:
    with np.load(path) as file:
        fit, held = (
            Part(file[f"{part}_acts"], file[f"{part}_labels"], class_concepts(file[f"{part}_labels"]))
            for part in ("fit", "audit")
        )
        head = LinearHead(file["head_weight"], file["head_bias"], "fc")
    return Subject(path, fit, held, head)
