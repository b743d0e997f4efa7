"""Networks of every family, small and with random weights, as classifiers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.reader import HeadReader
from salve_audit.inputs.model.head.search import find_head
from salve_audit.results.transform import TransformSpec

MODELS = Path(__file__).resolve().parents[1] / "models"


def build_timm(name: str, size: tuple[int, int], **kwargs: Any) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return as_classifier(timm.create_model(name, num_classes=5, **kwargs), size)


def build_from_file(file: str, function: str, size: tuple[int, int] = (32, 32)) -> Classifier:
    spec = importlib.util.spec_from_file_location(f"spatial_{file}", MODELS / f"{file}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return as_classifier(getattr(module, function)(), size)


def as_classifier(model: nn.Module, size: tuple[int, int], reader: HeadReader | None = None) -> Classifier:
    model = model.eval().requires_grad_(False)
    reader = reader or find_head(model, (3, *size))
    return Classifier(
        model=model,
        architecture="test",
        format="test",
        path=Path("model.pt"),
        sha256="",
        head_name=reader.name,
        transform=TransformSpec((3, *size), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0, "test"),
        class_names=None,
        trusted_code=False,
        notes=(),
        head_reader=reader,
    )


def draw_images(size: tuple[int, int], n: int = 3) -> Tensor:
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def images() -> Callable[..., Tensor]:
    return draw_images


@pytest.fixture
def timm_classifier() -> Callable[..., Classifier]:
    return build_timm


@pytest.fixture
def file_classifier() -> Callable[..., Classifier]:
    return build_from_file


@pytest.fixture
def classifier_of() -> Callable[..., Classifier]:
    return as_classifier
