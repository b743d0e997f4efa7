"""A program's graph behind a final linear layer that the rest of the tool can find, verify and edit."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from salve_audit.errors import HeadError

HINT = "export the network so that it returns the output of its final linear layer"


class Acts(nn.Module):
    """A module that returns (acts, logits): the input of the last linear layer, and the program's own logits."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def list_parameters(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The program's weights by name."""
        yield from self.named_parameters()


class Program(nn.Module):
    """A program with its last linear layer as a layer of its own.

    It returns the program's own logits, so that the verification of the head compares the two.
    """

    def __init__(self, body: Acts, weight: torch.Tensor | None, bias: torch.Tensor | None) -> None:
        super().__init__()
        assert weight is not None, "a linear layer has a weight"
        self.body = body
        k, d = weight.shape
        self.head = nn.Linear(d, k, bias=bias is not None)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            if bias is not None:
                self.head.bias.copy_(bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        acts, logits = self.body(images)
        self.head(acts)
        return logits

    def requires_grad_(self, requires_grad: bool = True) -> Program:
        for _, parameter in (*self.body.list_parameters(), *self.head.named_parameters()):
            parameter.requires_grad_(requires_grad)  # a script's modules forbid to be asked
        return self

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The program's parameters, which include the head's; the copy of the head is not counted twice."""
        for _, parameter in self.body.list_parameters():
            yield nn.Parameter(parameter, requires_grad=False)


def no_linear_end(path: str, what: str) -> HeadError:
    """The error for a graph that does not end with a linear layer."""
    return HeadError(path, f"its graph ends with {what}, expected a linear layer", hint=HINT)
