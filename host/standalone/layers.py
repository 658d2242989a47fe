"""Layers that store weights in one type and compute in the type of what they are given: transformers in float8."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ...models import bare_layers


def at_use(parameter: Tensor | None, x: Tensor) -> Tensor | None:
    return None if parameter is None else parameter.to(x.dtype)


class Linear(bare_layers.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, at_use(self.weight, x), at_use(self.bias, x))


class Conv2d(bare_layers.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, at_use(self.weight, x), at_use(self.bias, x))


class Conv3d(bare_layers.Conv3d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, at_use(self.weight, x), at_use(self.bias, x))


class LayerNorm(bare_layers.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, at_use(self.weight, x), at_use(self.bias, x), self.eps)


class RMSNorm(bare_layers.RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, at_use(self.weight, x), self.eps)
