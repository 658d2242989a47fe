"""What the processes of one run tell each other; with a single process all of it is the identity."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from ..batch import Losses
from .launch import LONGEST_WAIT, process_count

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)
Result = TypeVar("Result")
DEVICE = "ACCELERATE_TORCH_DEVICE"
# Beside an RTX 40 with an older driver accelerate begins only with these, though one process sends no messages.
WITHOUT_MESSAGES = {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}


def start_accelerator() -> Accelerator:
    """This process among those that were started with it.

    ValueError for ways of starting them that this training cannot follow.
    """
    from accelerate import Accelerator
    from accelerate.state import is_initialized
    from accelerate.utils import DistributedType, InitProcessGroupKwargs

    started = process_count()
    on_cpus = started > 1 and not any(kind.is_available() for kind in (torch.cuda, torch.xpu, torch.backends.mps))
    # Its precision holds for a whole process, where other packs may have asked for one, ours for a run, and nothing of
    # it is used here. It connects processes on CPUs only with `cpu`.
    precision = None if is_initialized() else "no"
    connection = InitProcessGroupKwargs(timeout=LONGEST_WAIT)
    if "LOCAL_RANK" in os.environ and torch.cuda.is_available() and not torch.distributed.is_nccl_available():
        connection.backend = "gloo"  # on Windows; accelerate takes NCCL for these cards everywhere
    with variables({} if started > 1 else WITHOUT_MESSAGES):
        accelerator = Accelerator(mixed_precision=precision, cpu=on_cpus, kwargs_handlers=[connection])
    kind = accelerator.distributed_type
    if kind == DistributedType.FSDP and getattr(accelerator.state.fsdp_plugin, "fsdp_version", 1) != 2:
        raise ValueError(
            "this launch asks for version 1 of FSDP, training here knows version 2: write `fsdp_version: 2` below "
            "`fsdp_config` in accelerate's config, or start it with --fsdp_version 2 (accelerate 1.6 or newer)"
        )
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(
            f"this launch asks for {kind.value}, which training here does not know: choose several processes "
            "(MULTI_GPU) or FSDP version 2 in `accelerate config`"
        )
    if accelerator.num_processes != started:
        raise ValueError(
            f"{started} processes were started, and accelerate does not connect them on {accelerator.device}: each "
            "would write the same run. Start one, or set the variable ACCELERATE_USE_CPU=true to train on CPUs"
        )
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and kind != DistributedType.FSDP and accelerator.is_main_process:
        warn_unsharded(str(accelerator.device))
    return accelerator


def train_on(device: torch.device) -> None:
    """Let this process train on the card that its host has; accelerate would take the first one.

    ValueError where another pack in this process has begun with another card. Processes that were started together
    have a card each, and what the variables of accelerate ask for is left as it is.
    """
    from accelerate import PartialState
    from accelerate.state import is_initialized
    from accelerate.utils import parse_flag_from_env

    if process_count() > 1 or DEVICE in os.environ or parse_flag_from_env("ACCELERATE_USE_CPU"):
        return
    if device.index and not is_initialized():
        with variables({DEVICE: str(device)}):
            start_accelerator()
    begun = PartialState().device if is_initialized() else device
    if begun.type == device.type and (begun.index or 0) != (device.index or 0):
        raise ValueError(
            f"the models of this host are on {device}, and another training in this process has begun on {begun}, "
            "where accelerate keeps all that follow: start the program again, and train here first"
        )


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Variables of the environment that are set for a while where they are not yet: other programs inherit them."""
    new = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in new})
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


@cache
def warn_unsharded(device: str) -> None:
    """Say once that accelerate leaves out the FSDP it was asked for, as it does without several accelerators."""
    log.warning(
        "accelerate's config asks for FSDP, which it offers for several accelerators only: here, on %s, every process "
        "keeps the whole model and trains on batches of its own",
        device,
    )


def ranks() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are."""
    from accelerate import PartialState

    start_accelerator()
    state = PartialState()
    return state.process_index, state.num_processes


def together(work: Callable[[], Result]) -> Result:
    """Do a part of the `work` in every process and wait for all; what fails in one ends it in all, with the reason."""
    from accelerate.utils import gather_object

    result: list[Result] = []
    fault: BaseException | None = None
    try:
        result = [work()]
    except BaseException as error:  # also that somebody stopped it
        fault = error
    faults = gather_object([None if fault is None else str(fault) or type(fault).__name__])
    if fault is not None:
        raise fault
    for number, reason in enumerate(faults):
        if reason is not None:
            raise OtherProcessFailed(f"process {number} of {len(faults)} stopped, and the others with it: {reason}")
    return result[0]


class OtherProcessFailed(OSError):
    """This process could have gone on, another one could not."""


def decided_by_first(value: Result) -> Result:
    """What the first process says."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


@torch.no_grad()
def share_weights(network: nn.Module, device: torch.device) -> None:
    """Give all processes the weights of the first, tensor by tensor over `device`."""
    from accelerate.utils import broadcast

    for tensor in network.state_dict().values():
        tensor.copy_(broadcast(tensor.to(device)))


def average_gradients(accelerator: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Mean over processes in one message; objectives may call the modules in any way, which DDP's hooks forbid.

    A parameter that some processes did not use counts as 0 there; one that none used stays without a gradient.
    """
    if accelerator.num_processes == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    used = torch.tensor([p.grad is not None for p in trained], device=accelerator.device, dtype=torch.float32)
    gradients = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained]
    mean = accelerator.reduce(torch.cat([used, *gradients]), reduction="mean")
    used, *gradients = mean.split([len(trained), *(p.numel() for p in trained)])
    for parameter, share, gradient in zip(trained, used.tolist(), gradients, strict=True):
        parameter.grad = gradient.view_as(parameter).to(parameter.dtype) if share else None


def read_together(parts: Sequence[Losses], norm: Tensor) -> tuple[list[dict[str, float]], float]:
    """Losses and the norm of the gradients as numbers, for which the host waits once."""
    values = [value for part in parts for value in part.values()]
    *numbers, length = torch.stack([value.reshape(()).to(norm) for value in (*values, norm)]).tolist()
    rest = iter(numbers)
    return [{name: next(rest) for name in part} for part in parts], length


def average_values(parts: Sequence[Mapping[str, float]], stop: bool) -> tuple[dict[str, float], bool]:
    """Mean of every named value over all parts of all processes that have it, and whether any process shall stop."""
    from accelerate.utils import gather_object

    gathered = gather_object([(list(parts), stop)])
    parts = [part for each, _ in gathered for part in each]
    names = dict.fromkeys(name for part in parts for name in part)
    found = {name: [part[name] for part in parts if name in part] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}, any(stop for _, stop in gathered)


def agree(value: int, where: object) -> None:
    """Wait until all processes have read `value` in the folder `where`; ValueError when they read unlike ones."""
    from accelerate.utils import gather_object

    values = gather_object([value])
    if len(set(values)) > 1:
        raise ValueError(f"the processes found steps {values} in {where}; it must be one folder that all of them share")
