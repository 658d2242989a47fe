"""A card that is not there: code runs on fake tensors that say "cuda", and every kernel is counted, none is timed.

Works without a GPU; needs a build of torch that knows CUDA. Counted are launches, bytes (inputs read once, outputs
written), multiplications, live memory, attention calls with their shapes, copies and reads that make the host wait.
Attention takes the kernel that torch's rules choose on current cards.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

H100_BYTES, H100_FLOPS = 3.35e12, 989e12  # a second
aten = torch.ops.aten
ROOT = Path(__file__).resolve().parent.parent
NO_KERNEL = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "detach",
    "alias",
    "_unsafe_view",
}
NO_KERNEL |= {"lift_fresh", "_reshape_alias", "_local_scalar_dense", "set_", "resize_"}
SEVERAL = {"native_group_norm": 3, "constant_pad_nd": 2}
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}
ATTENTION = ("_scaled_dot_product", "_flash_attention", "_efficient_attention")


def is_view(func) -> bool:
    returns = func._schema.returns
    return bool(returns) and any(one.alias_info is not None and not one.alias_info.is_write for one in returns)


def touched(tensor: Tensor) -> int:
    """Bytes that a kernel reads or writes of a tensor: what is repeated by a stride of 0 counts once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride or not size else 1
    return count * tensor.element_size()


def place() -> str:
    """The line of the project that is at work."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if ROOT in path.parents and path.parent.name != "benchmarks":
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


class Counts(TorchDispatchMode):
    """What ran on the fake card."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.live = 0
        self.clear()

    def clear(self) -> None:
        """Begin to count anew; what is in memory stays."""
        self.launches: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.flops: Counter[str] = Counter()
        self.attention: Counter[tuple] = Counter()  # kernel, shapes and strides
        self.events: Counter[tuple[str, str]] = Counter()  # ("wait", "to card", "to host", "float64"), place
        self.seconds = 0.0  # the least that an H100 takes: each kernel the longer of its bytes and its flops
        self.peak = self.live

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.namespace != "aten":
            return func(*args, **kwargs)
        name = func._schema.name.split("::")[1]
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_card = any(one.device.type == "cuda" for one in inputs)
        if name in WAITS and on_card:
            self.events["wait", place()] += 1
        if name == "_local_scalar_dense" and isinstance(inputs[0], FakeTensor):
            return True if inputs[0].dtype == torch.bool else 1
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if on_card or any(one.device.type == "cuda" for one in outputs):
            self.count(func, name, args, kwargs, inputs, outputs, result)
        for one in outputs:
            self.remember(one)
        return result

    def count(self, func, name, args, kwargs, inputs, outputs, result) -> None:
        if name in ("_to_copy", "copy_"):
            source, target = (inputs[-1], inputs[0]) if name == "copy_" else (inputs[0], outputs[0])
            if source.device.type != target.device.type:
                self.events["to card" if target.device.type == "cuda" else "to host", place()] += 1
        if any(one.dtype in (torch.float64, torch.complex128) for one in outputs if one.device.type == "cuda"):
            self.events["float64", place()] += 1
        if is_view(func) or name in NO_KERNEL:
            return
        if name.startswith(ATTENTION):
            self.attention[(name, *((tuple(one.shape), one.stride()) for one in inputs[:3]))] += 1
        self.launches[name] += SEVERAL.get(name, 1)
        changed = [one for one in outputs if any(one is given for given in inputs)]
        made = [one for one in outputs if not any(one is given for given in inputs)]
        flops = 0
        read = [one for one in inputs if one is not kwargs.get("out")]
        moved = sum(touched(one) for one in (*read, *made, *changed) if one.device.type == "cuda")
        self.bytes[name] += moved
        varlen = name == "_flash_attention_forward"  # torch counts it as if all sequences were the longest
        if func._overloadpacket in flop_registry and not varlen:
            flops = flop_registry[func._overloadpacket](*args, **kwargs, out_val=result)
            self.flops[name] += flops
        self.seconds += max(moved / H100_BYTES, flops / H100_FLOPS)

    def remember(self, tensor: Tensor) -> None:
        """Count the memory of a new tensor until it is given back."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if tensor.device.type != "cuda" or key in self.sizes:
            return
        self.sizes[key] = storage.nbytes()
        self.live += self.sizes[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.forget, key)

    def forget(self, key: int) -> None:
        self.live -= self.sizes.pop(key, 0)


def attention_as_on_a_card(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **kw):
    """The fused kernel that torch's rules choose for these inputs."""
    if query.device.type != "cuda":
        return real_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale)
    half = query.dtype in (torch.float16, torch.bfloat16)
    if half and attn_mask is None and query.shape[-1] <= 256:
        return aten._scaled_dot_product_flash_attention(query, key, value, 0.0, is_causal, scale=scale)[0]
    bias = attn_mask
    if bias is not None:
        if bias.dtype == torch.bool:
            bias = torch.zeros_like(bias, dtype=query.dtype).masked_fill_(bias.logical_not(), float("-inf"))
        bias = bias.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    return aten._scaled_dot_product_efficient_attention(query, key, value, bias, False, 0.0, is_causal, scale=scale)[0]


real_attention = F.scaled_dot_product_attention


@contextlib.contextmanager
def counted_card() -> Iterator[Counts]:
    """Run what is inside on the fake card "cuda"."""
    counts = Counts()
    with FakeTensorMode(allow_non_fake_inputs=True), counts, torch.no_grad():
        yield counts
