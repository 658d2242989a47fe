"""How many latent frames are made at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Units:
    """Latent frames of the first unit of a clip and of all later ones."""

    first: int = 1
    later: int = 1

    def plan(self, frames: int, known: int = 0) -> list[tuple[int, slice]]:
        """Number and latent frames of every unit still to be made of a clip whose first `known` frames are there.

        ValueError names the nearest length where units do not fill the clip or the start, and where nothing is left.
        """
        for name, length in (("clip", frames), ("start", known or self.first)):
            if length < self.first or (length - self.first) % self.later:
                raise ValueError(
                    f"a {name} of {length} latent frames; expected {self.lengths}, nearest {self.nearest(length)}: "
                    "make the latent with 'Empty video latent' and wire the VAE of this model into it"
                )
        if known >= frames:
            raise ValueError(
                f"the start already has {known} latent frames and the clip only {frames}; "
                "ask for a longer clip or give a shorter start"
            )
        later = [slice(at, at + self.later) for at in range(self.first, frames, self.later)]
        return [(unit, where) for unit, where in enumerate([slice(0, self.first), *later]) if where.start >= known]

    @property
    def lengths(self) -> str:
        """The legal lengths in words."""
        if self.first == self.later:
            return f"a multiple of {self.later}"
        return f"{self.first} plus a multiple of {self.later}"

    def nearest(self, frames: int) -> int:
        """The nearest legal length."""
        return self.first + max(0, round((frames - self.first) / self.later)) * self.later


ONE_FRAME = Units()  # Pyramid Flow
