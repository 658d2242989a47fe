"""Patches of the host that take the place of a block: skip-layer guidance, other packs' ways to leave blocks out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ...models.block_patches import BlockPatch, RunBlock, Streams


def block_patch(network: nn.Module, options: Mapping[str, Any]) -> BlockPatch | None:
    """What runs the blocks of `network` with the patches in `options`; None where there are none."""
    patches = options.get("patches_replace", {}).get("dit")
    if not patches:
        return None
    places = dict(places_of(network))

    def patch(block: nn.Module, run: RunBlock, x: Tensor, text: Any, temb: Tensor) -> Streams:
        replacement = patches.get(places[block])
        if replacement is None:
            return run(x, text)

        def original(given: Mapping[str, Any]) -> dict[str, Any]:
            image, words = run(given["img"], given.get("txt"))
            return {"img": image, "txt": words}

        given = {"img": x, "txt": text, "vec": temb, "transformer_options": options}
        made = replacement(given, {"original_block": original})
        return made["img"], made.get("txt")

    return patch


def places_of(network: Any) -> Iterator[tuple[nn.Module, tuple[str, int]]]:
    """Each block, and how the host calls it: of two streams or of one, and which of them."""
    double: Iterable[nn.Module] = getattr(network, "transformer_blocks", network.blocks)
    single: Iterable[nn.Module] = getattr(network, "single_transformer_blocks", ())
    for kind, blocks in (("double_block", double), ("single_block", single)):
        for number, block in enumerate(blocks):
            yield block, (kind, number)
