"""Both halves of a run that is cut before a jump."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_patcher
from comfy.patcher_extension import WrappersMP, add_wrapper
from torch import Tensor

from ...samplers.drafts import Draft
from ...samplers.spectral import PictureInfo
from ...samplers.spectral_stages import SpectralStages, check_jump
from .spectral import SpectralRun, SpectralSampler
from .streams import Streams


class DraftSampler(SpectralSampler):
    """Stops before a jump; keeps the state there, and the clean estimate at the size of its stage."""

    def __init__(self, stages: SpectralStages, inner: Any, jump: int) -> None:
        super().__init__(stages, inner)
        self.jump = jump
        self.state: Tensor
        self.clip: list[Tensor]
        self.levels: tuple[float, ...] = ()
        self.next_segment = 0

    def play(self, run: SpectralRun) -> Tensor:
        state = run.begin()
        self.levels = self.stages.shares(run.size, run.info.latents)
        check_jump(run.segments, self.jump, self.levels, run.sigmas)
        walked = run.segments[: self.jump]
        self.next_segment = self.jump
        self.state = run.play(state, walked).clone()
        stage = run.streams.at(walked[-1].size)
        shown = run.clean if run.clean is not None else self.state
        self.clip = [each.clone() for each in stage.split(run.model.process_latent_out(shown.clone()))]
        return run.in_place(shown, stage)

    def ask_for_its_size(self, guider: Any, info: PictureInfo, streams: Streams, sigmas: Sequence[float]) -> None:
        """Let the host keep memory free for the largest stage that is walked; it knows the full size alone."""
        plan = self.stages.plan(streams.size, info.patch, sigmas, info.scaling, info.latents)
        walked = streams.at(plan[: self.jump][-1].size)

        def prepare(execute: Any, model: Any, shape: Sequence[int], *rest: Any, **named: Any) -> Any:
            packed = len(streams.shapes) > 1
            end = (walked.numel // shape[0],) if packed else walked.size  # context windows may have cut the others
            return execute(model, [*shape[: -len(end)], *end], *rest, **named)

        guider.model_options = comfy.model_patcher.create_model_options_clone(guider.model_options)
        add_wrapper(WrappersMP.PREPARE_SAMPLING, prepare, guider.model_options, is_model_options=True)


class FinishSampler(SpectralSampler):
    """Goes on with a draft, exactly as the run would have that made it."""

    def __init__(self, stages: SpectralStages, inner: Any, draft: Draft) -> None:
        super().__init__(stages, inner)
        self.draft = draft

    def play(self, run: SpectralRun) -> Tensor:
        run.begin()
        before, rest = run.segments[: self.draft.segment], run.segments[self.draft.segment :]
        (state,) = self.draft.tensors["state"]
        wanted = run.streams.at(before[-1].size).numel if before and rest else 0
        if state.numel() != wanted:
            raise ValueError("this draft does not fit its own stages: make it again")
        return run.finished(run.play(state.to(run.noise), rest))
