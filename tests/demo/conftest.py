"""A network trained once on few images of the demo world; far above chance is enough for these tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from salve_audit.demo.files import write_world
from salve_audit.demo.images import DrawnSplit
from salve_audit.demo.training import NetworkRecipe, save_checkpoint, train_network
from salve_audit.demo.world import World, demo_world

SEED = 3
N_TRAIN, N_VAL = 250, 25
RECIPE = NetworkRecipe(epochs=3)


@dataclass(frozen=True)
class Trained:
    world: World
    model: nn.Module
    splits: dict[str, DrawnSplit]
    folder: Path
    checkpoint: Path


@pytest.fixture(scope="session")
def world() -> World:
    return demo_world()


@pytest.fixture(scope="session")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("world")
    splits = dict(write_world(world, folder / "data", N_TRAIN, N_VAL, SEED))
    model = train_network(splits["train"].pixels, splits["train"].labels, RECIPE, SEED)
    save_checkpoint(model, RECIPE, folder / "model.pt", world.size, world.class_names)
    return Trained(world, model, splits, folder / "data", folder / "model.pt")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)
