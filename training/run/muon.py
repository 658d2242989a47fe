"""Muon: momentum whose matrices are made orthogonal before each step (Jordan et al. 2024), beside AdamW for the rest.

Every direction of an inner matrix then learns at the same speed, where AdamW follows the few that dominate; small
networks that learn for minutes get further. Steps are scaled to the size of AdamW's (Liu et al. 2025, arXiv
2502.16982, section 2.2), so one learning rate serves both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ...models.bf16 import has_bf16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that brings all singular values near 1 in five rounds
ROUNDS = 5
MOMENTUM = 0.95
ADAM_SIZE = 0.2  # root mean square of an AdamW step, in units of the learning rate
EPS = 1e-8


def inner_matrices(network: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon is for: matrices and kernels inside of blocks, but for embeddings and modulations.

    First and last layers stay with AdamW: all of a picture's brightness passes through a few of their directions.
    """
    return [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad
        and parameter.ndim >= 2
        and re.search(r"\.\d+\.", name)
        and "norm" not in name
        and "discriminator" not in name
    ]


class Muon(torch.optim.Optimizer):
    """Groups with `orthogonal` take Muon's step, others AdamW's."""

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float], weight_decay: float = 0.0
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "orthogonal": False}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # one signature
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._orthogonal_step if group["orthogonal"] else self._adam_step
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update(parameter, parameter.grad, group), alpha=group["lr"])
        return loss

    def _orthogonal_step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        matrix = gradient.lerp(momentum, MOMENTUM).flatten(1)
        return orthogonal(matrix).mul_(ADAM_SIZE * max(matrix.shape) ** 0.5).view(parameter.shape)

    def _adam_step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        mean = state["exp_avg"].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        count = float(state["step"])
        deviation = (square / (1 - second**count)).sqrt_().add_(EPS)
        return (mean / (1 - first**count)).div_(deviation)


def orthogonal(matrix: Tensor) -> Tensor:
    """Bring the singular values of `matrix (rows, columns)` to about 1, by Newton-Schulz rounds.

    They need few digits: bfloat16 does where the device multiplies in it; elsewhere float32 is many times as fast.
    """
    a, b, c = COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).to(torch.bfloat16 if has_bf16(matrix.device) else torch.float32)
    x = x / (x.norm() + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.T).to(matrix.dtype).contiguous()
