"""Where a grid lies in the image, for networks whose answer follows from their strides."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

from salve_audit.spatial.alignment import measure_alignment
from salve_audit.spatial.map_layers import last_spatial_layer


class Strided(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(*layers), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).mean((2, 3)))


@pytest.mark.parametrize(
    ("layers", "shift"),
    [
        # patches are where their cells are
        ([nn.Conv2d(3, 8, 4, 4)], 0.0),
        # at stride 2 with padding 1 cell i is over pixel 2 i: eight cells 4 i, so 14 is under 3.5, not 15.5
        ([nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)], -1.5),
        # four more pixels of padding at the upper left: cell i is over the patch before
        ([nn.ZeroPad2d((4, 0, 4, 0)), nn.Conv2d(3, 8, 4, 4, padding=0), nn.ZeroPad2d((0, -1, 0, -1))], -4.0),
    ],
)
def test_strides_move_the_grid(layers: list[nn.Module], shift: float, classifier_of: Any, images: Any) -> None:
    classifier, prepared = classifier_of(Strided(*layers), (32, 32)), images((32, 32), 4)
    layer = last_spatial_layer(classifier, prepared)
    assert (layer.layout.height, layer.layout.width) == (8, 8)
    alignment = measure_alignment(classifier, layer, prepared)
    assert (alignment.y, alignment.x) == (pytest.approx(shift, abs=0.6), pytest.approx(shift, abs=0.6))
