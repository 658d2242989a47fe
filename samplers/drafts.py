"""A draft: a run that stopped before a jump, as one tensor, which every block and file that carries latents carries.

A row holds, as float32: how long the description is, the description (JSON, a number for each byte), then the state and
all tensors of full size that going on needs. Rows of a batch are drafts of their own.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

FORMAT = "pyramid video draft"
VERSION = 1  # of the form of this tensor
BLOCK = 1024  # descriptions are filled up to a multiple of this, so that rows of a batch are as long
LONGEST_TEXT = 1 << 20
NO_DRAFT = "this latent is not a draft: wire 'draft' of 'Draft' here, or a file that 'SaveLatent' wrote of it"


@dataclass(frozen=True, eq=False)
class Draft:
    """Where a run stands, and what it goes on with.

    `tensors` holds streams by name: "state" of the stage, "noise" and "latent" of full size, "mask" where there is one.
    Each has a batch of one.
    """

    model: str  # names the network's kind and shapes
    seed: int
    scales: tuple[float, ...]
    levels: tuple[float, ...]  # shares of noise
    sigmas: tuple[float, ...]  # of the whole run
    segment: int  # the next to be walked
    tensors: dict[str, list[Tensor]] = field(repr=False)

    def check_model(self, *names: str) -> None:
        """ValueError where another network made the draft than the one that is called `names`, today's name first."""
        if self.model not in names:
            raise ValueError(
                f"this draft was made with a model {self.model}, but the model here is {names[0]}: wire the model that "
                "made it, or other weights of that kind"
            )


def pack_draft(draft: Draft) -> Tensor:
    """A draft as a tensor (1, 1, n), float32."""
    facts = {key: value for key, value in asdict(draft_without_tensors(draft)).items() if key != "tensors"}
    shapes = {name: [list(each.shape) for each in streams] for name, streams in draft.tensors.items()}
    about = {"format": FORMAT, "version": VERSION, **facts, "seed": f"{draft.seed:016x}", "shapes": shapes}
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % BLOCK)
    numbers = torch.tensor([float(len(text)), *text])
    flat = [each.float().cpu().reshape(-1) for streams in draft.tensors.values() for each in streams]
    return torch.cat([numbers, *flat])[None, None]


def draft_without_tensors(draft: Draft) -> Draft:
    return Draft(draft.model, draft.seed, draft.scales, draft.levels, draft.sigmas, draft.segment, {})


def unpack_draft(row: Tensor) -> Draft:
    """The draft in a row (1, 1, n). ValueError where it is none, is cut, or has a form that is not read here."""
    if row.ndim != 3 or row.shape[:2] != (1, 1) or row.shape[2] < 2:
        raise ValueError(NO_DRAFT)
    flat = row.reshape(-1)
    length = float(flat[0])
    if not (0 < length <= min(LONGEST_TEXT, len(flat) - 1)) or length != int(length):
        raise ValueError(NO_DRAFT)
    numbers, rest = flat[1 : 1 + int(length)], flat[1 + int(length) :]
    if not ((numbers >= 0) & (numbers < 256) & (numbers == numbers.round())).all():
        raise ValueError(NO_DRAFT)
    try:
        about = json.loads(bytes(int(number) for number in numbers.tolist()))
    except ValueError:
        raise ValueError(NO_DRAFT) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(NO_DRAFT)
    if about.get("version") != VERSION:
        raise ValueError(
            f"this draft has form {about.get('version')}, and this version of Pyramid Video reads form {VERSION}: "
            "finish it with the version that made it"
        )
    try:
        return read_draft(about, rest)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ValueError(f"this draft is damaged ({type(error).__name__}): make it again") from error


def read_draft(about: dict[str, Any], rest: Tensor) -> Draft:
    """The parts of a draft, in the order in which they were written."""
    tensors: dict[str, list[Tensor]] = {}
    for name, shapes in about["shapes"].items():
        tensors[name] = []
        for shape in shapes:
            if not all(type(side) is int and side > 0 for side in shape) or math.prod(shape) > len(rest):
                raise ValueError("a tensor is longer than what is left")
            tensors[name].append(rest[: math.prod(shape)].reshape(shape))
            rest = rest[math.prod(shape) :]
    if len(rest) or not {"state", "noise", "latent"} <= set(tensors):
        raise ValueError("tensors are missing, or too many")
    return Draft(
        str(about["model"]),
        int(about["seed"], 16),
        tuple(map(float, about["scales"])),
        tuple(map(float, about["levels"])),
        tuple(map(float, about["sigmas"])),
        int(about["segment"]),
        tensors,
    )
