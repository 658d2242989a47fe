"""A pretended GPU: tensors that say they are on a device called "simu" and hold a CPU tensor.

Numbers are real. What a GPU would refuse raises here, with the line of the project: tensors of two devices in one
operation, a generator of another device. Copies between the devices, reads that make the host wait and float64 on the
device are noted with their line. `pretend` must run before anything else of a process: it renames torch's free backend.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ROOT = Path(__file__).resolve().parents[2]
DEVICE = "simu:0"
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}

notes: Counter[tuple[str, str]] = Counter()  # ("to device" | "to host" | "wait" | "float64", line of the project)
hosts: list[Path] = []  # other folders whose lines are named, as "host:PATH", where no line of the project is at work


def place() -> str:
    """The line of the project that is at work, and its function: `file:line:function`."""
    frame, of_host = sys._getframe(2), "?"
    while frame is not None:
        ours, named = named_file(frame.f_code.co_filename)
        if ours:
            return f"{named}:{frame.f_lineno}:{frame.f_code.co_name}"
        if of_host == "?" and named:
            of_host = f"{named}:{frame.f_lineno}"
        frame = frame.f_back
    return of_host


@cache
def named_file(file: str) -> tuple[bool, str]:
    """Whether a file is one of the project's, and its name in notes; an empty one for files that are not named."""
    path = Path(file)
    if ROOT in path.parents and "tests" not in path.parts:
        return True, str(path.relative_to(ROOT))
    return False, f"host:{path}" if any(host in path.parents for host in hosts) else ""


class OnDevice(torch.Tensor):
    """A tensor on the pretended GPU."""

    @staticmethod
    def __new__(cls, held, requires_grad=False):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(DEVICE),
            requires_grad=requires_grad,
        )
        made.held = held
        return made

    def tolist(self):
        notes["wait", place()] += 1
        return self.held.tolist()

    def numpy(self, *args, **kw):
        raise TypeError("a tensor on the device has no numpy array: use Tensor.cpu() first")

    def untyped_storage(self):
        return self.held.untyped_storage()

    def new_tensor(self, data, dtype=None, **kw):
        notes["to device", place()] += 1
        return OnDevice(self.held.new_tensor(data, dtype=dtype))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


def bytes_on_device() -> int:
    """How many bytes lie on the pretended GPU, without the tables that the project keeps from call to call."""
    objects = gc.get_objects()
    for each in objects:
        if type(each) is type(named_file) and ".pyramid_video." in f".{each.__module__}":
            each.cache_clear()
    del objects
    return sum(each.nbytes for each in gc.get_objects() if issubclass(type(each), OnDevice))


def held(x):
    return x.held if isinstance(x, OnDevice) else x


def is_ours(device) -> bool:
    return device is not None and torch.device(device).type == "simu"


def named_device(func, args, kwargs):
    """A device given by position as a keyword."""
    for number, argument in enumerate(func._schema.arguments[: len(args)]):
        if argument.name == "device":
            rest = zip(func._schema.arguments[number : len(args)], args[number:], strict=True)
            return args[:number], {**kwargs, **{one.name: value for one, value in rest}}
    return args, kwargs


def run(func, args, kwargs):
    """Do one operation as the device would."""
    name = func._schema.name.split("::")[1]
    if name != "_to_copy":
        args, kwargs = named_device(func, args, kwargs)
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [leaf for leaf in leaves if isinstance(leaf, OnDevice)]
    device = kwargs.get("device")
    if not ours and not is_ours(device):
        return func(*args, **kwargs)
    where = place()
    if name in WAITS and ours:
        notes["wait", where] += 1
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type != "simu":
        raise RuntimeError(f"{where}: a generator on {generator.device} cannot draw on the device ({name})")
    stays = device is None or is_ours(device)  # on the device
    if name == "_to_copy":
        target = device if device is not None else (DEVICE if ours else "cpu")
        stays = is_ours(target)
        if stays and not ours:
            notes["to device", where] += 1
        if not stays and ours:
            notes["to host", where] += 1
    elif name == "copy_":
        if isinstance(args[0], OnDevice) is not isinstance(args[1], OnDevice) and args[1].ndim:
            notes["to device" if isinstance(args[0], OnDevice) else "to host", where] += 1
    else:
        allowed = (torch.long, torch.int32, torch.bool) if name in INDEXING else ()
        strange = [
            leaf for leaf in leaves if leaf.ndim and not isinstance(leaf, OnDevice) and leaf.dtype not in allowed
        ]
        if ours and strange and device is None:
            raise RuntimeError(f"{where}: {name} got tensors on the device and on the CPU")
    if any(leaf.dtype in (torch.float64, torch.complex128) for leaf in ours):
        notes["float64", where] += 1
    if is_ours(device) or name == "_to_copy":
        kwargs = {**kwargs, "device": torch.device("cpu")}
    before = {id(leaf.held): leaf for leaf in ours}
    result = func(*tree_map(held, args), **tree_map(held, kwargs))

    def wrap(x):
        if not isinstance(x, torch.Tensor) or not stays:
            return x
        return before[id(x)] if id(x) in before else OnDevice(x)

    if name == "_to_copy" and any(result is leaf for leaf in (held(leaf) for leaf in leaves)):
        result = result.clone()
    if name == "copy_" and not isinstance(args[0], OnDevice):
        return args[0]
    return result if name == "_local_scalar_dense" else tree_map(wrap, result)


class Pretending(TorchDispatchMode):
    """What is made for the device, without a tensor on it so far."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


def pretend() -> Pretending:
    """Make the device "simu" known to torch; what runs inside what is returned may use it."""
    from torch.utils import backend_registration

    class Backend(backend_registration._DummyBackendModule):
        def is_available(self):
            return True

        def device_count(self):
            return 1

        def current_device(self):
            return 0

        def empty_cache(self):
            pass

        def get_amp_supported_dtype(self):
            return [torch.bfloat16]

    backend_registration._setup_privateuseone_for_python_backend(rename="simu", backend_module=Backend())
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    make = torch.tensor

    def tensor(data, *args, dtype=None, device=None, **kw):
        made = make(data, *args, dtype=dtype, **kw)
        if not is_ours(device):
            return made if device is None else made.to(device)
        notes["to device", place()] += 1
        return OnDevice(made)

    torch.tensor = tensor
    return Pretending()
