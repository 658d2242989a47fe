"""Layers that store weights in one type and compute in the type of what they are given: transformers in float8."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ...models import skip_init


def at_use(parameter: Any, x: Tensor) -> Any:
    return None if parameter is None else parameter.to(x.dtype)


class Linear(skip_init.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, at_use(self.weight, x), at_use(self.bias, x))


class Conv2d(skip_init.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, at_use(self.weight, x), at_use(self.bias, x))


class Conv3d(skip_init.Conv3d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, at_use(self.weight, x), at_use(self.bias, x))


class LayerNorm(skip_init.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, at_use(self.weight, x), at_use(self.bias, x), self.eps)


class RMSNorm(skip_init.RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, at_use(self.weight, x), self.eps)
