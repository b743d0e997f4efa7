"""Tiny networks that differ in their heads, for ``--arch heads.py:FUNCTION``."""

import timm
import torch
import torch.nn.functional as F
from torch import nn

input_size, mean, std = (3, 32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
interpolation, crop_pct = "bilinear", 1.0
D = 12


def stem() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, D, 3, 4, 1), nn.ReLU())


def pool() -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Cosine(nn.Module):
    """``s · cos(x, w_k)``; the factor is learned as its logarithm, as in CLIP."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(k, D))
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.log_scale.exp() * F.normalize(x, dim=1) @ F.normalize(self.weight, dim=1).T


class Normed(nn.Module):
    """One column per class, the temperature outside of the layer."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(stem(), pool()), self.Layer(k)

    class Layer(nn.Module):
        def __init__(self, k: int) -> None:
            super().__init__()
            self.columns = nn.Parameter(torch.randn(D, k))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.normalize(x, dim=1).mm(F.normalize(self.columns, dim=0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x)) / 0.05


class TwoHeads(nn.Module):
    """The average of two linear layers with inputs of different width."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.body, self.wide = stem(), nn.Sequential(nn.Conv2d(D, 7, 3, 1, 1), nn.ReLU())
        self.pool, self.first, self.second = pool(), nn.Linear(D, k), nn.Linear(7, k)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        return (self.first(self.pool(x)) + self.second(self.pool(self.wide(x)))) / 2


class Tokens(nn.Module):
    """A linear layer at every pixel, averaged afterwards."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.body, self.head = stem(), nn.Linear(D, k)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).flatten(2).transpose(1, 2)).mean(1)


class MinusDistance(nn.Module):
    """Not linear: the negative distance to a prototype."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(k, D))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(x, self.prototypes)


def conv_before_pool(num_classes: int = 3) -> nn.Module:
    return nn.Sequential(stem(), nn.Conv2d(D, num_classes, 1), pool())


def conv_after_pool(num_classes: int = 3) -> nn.Module:
    return nn.Sequential(stem(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(D, num_classes, 1), nn.Flatten())


def rectified_conv(num_classes: int = 3) -> nn.Module:
    """As in SqueezeNet: a ReLU between the convolution and the pooling, which no linear head can express."""
    return nn.Sequential(stem(), nn.Conv2d(D, num_classes, 1), nn.ReLU(), pool())


def tokens() -> nn.Module:
    return Tokens(3)


def two_heads() -> nn.Module:
    return TwoHeads(3)


def cosine() -> nn.Module:
    return nn.Sequential(stem(), pool(), Cosine(3))


def normed() -> nn.Module:
    return Normed(3)


def no_bias(num_classes: int = 3) -> nn.Module:
    return nn.Sequential(stem(), pool(), nn.Linear(D, num_classes, bias=False))


def one_output() -> nn.Module:
    return nn.Sequential(stem(), pool(), nn.Linear(D, 1))


def one_probability() -> nn.Module:
    return nn.Sequential(stem(), pool(), nn.Linear(D, 1), nn.Sigmoid(), nn.Flatten(0))


def probabilities(num_classes: int = 3) -> nn.Module:
    return nn.Sequential(stem(), pool(), nn.Linear(D, num_classes), nn.Softmax(dim=1))


def labels(num_classes: int = 3) -> nn.Module:
    return nn.Sequential(stem(), pool(), nn.Linear(D, num_classes), nn.Sigmoid())


def mlp(num_classes: int = 3) -> nn.Module:
    body = nn.Sequential(stem(), pool())
    return nn.Sequential(body, nn.Sequential(nn.Linear(D, 9), nn.ReLU(), nn.Linear(9, num_classes)))


def distance() -> nn.Module:
    return nn.Sequential(stem(), pool(), MinusDistance(3))


def distilled() -> nn.Module:
    return timm.create_model(
        "deit_tiny_distilled_patch16_224", img_size=32, depth=1, embed_dim=24, num_heads=2, num_classes=3
    )
