"""How each kind of pyramidal model is sampled: the size of its units, and what is used where nothing is wired."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.families import DEFAULT_VARIANT, HELIOS, PYRAMID_FLOW
from ..models.model_info import ModelInfo
from .guidance import PyramidGuidance
from .helios_history import HELIOS_UNITS, HeliosHistory
from .helios_stages import make_helios_stages
from .history import History, PyramidHistory
from .names import DISTILLED_SOLVERS
from .sigma_schedule import TokenShift
from .stages import PyramidStages, Steps, make_stages
from .units import ONE_FRAME, Units

UNITS = {PYRAMID_FLOW: ONE_FRAME, HELIOS: HELIOS_UNITS}


@dataclass(frozen=True)
class Preset:
    """What a model is sampled with."""

    stages: PyramidStages
    guidance: PyramidGuidance
    history: History


def helios_stages_of(
    count: int = 3, first_steps: Steps = 4, video_steps: Steps = 2, solver: str = "dmd", gamma: float = 1 / 3
) -> PyramidStages:
    """The stages of the released Helios models; Distilled (solver "dmd") was trained with a linear shift."""
    shift = TokenShift("linear" if solver in DISTILLED_SOLVERS else "exponential")
    return make_helios_stages(
        count, gamma, first_steps=first_steps, video_steps=video_steps, solver=solver, shift=shift
    )


PRESETS = {  # by variant of the released models; "" is Pyramid Flow
    "": Preset(make_stages(), PyramidGuidance(), PyramidHistory()),
    "base": Preset(helios_stages_of(1, 50, 50, "unipc"), PyramidGuidance(5.0, 5.0), HeliosHistory()),
    "mid": Preset(
        helios_stages_of(3, 20, 20, "unipc"), PyramidGuidance(5.0, 5.0, zero_star=True, zero_steps=2), HeliosHistory()
    ),
    "distilled": Preset(helios_stages_of(), PyramidGuidance(1.0, 1.0), HeliosHistory()),
}


def units_of(info: ModelInfo) -> Units:
    """How many latent frames a model makes at once."""
    return Units(info.unit_frames, info.unit_frames)


def default_for(history: History) -> tuple[PyramidStages, Units]:
    """The default stages and units of the models that a history is for."""
    return PRESETS[DEFAULT_VARIANT[history.made_for]].stages, UNITS[history.made_for]


def resolve_defaults(
    info: ModelInfo, stages: PyramidStages | None, history: History | None
) -> tuple[PyramidStages, History]:
    """The stages and history to sample a model with: those given, else those of its variant.

    ValueError where one was made for another line of pyramids.
    """
    preset, wanted = PRESETS[info.family.variant], info.made_for
    stages, history = stages or preset.stages, history or preset.history
    if stages.made_for != wanted:
        raise ValueError(
            f"'stages' are those of {stages.made_for}, but {info.name} is a {wanted} model: set 'made_for' in "
            f"'Pyramid stages' to {wanted}, or leave 'stages' unconnected"
        )
    if history.made_for != wanted:
        block = "Temporal conditioning" if wanted == PYRAMID_FLOW else f"Temporal conditioning ({wanted})"
        raise ValueError(
            f"'history' is that of {history.made_for}, but {info.name} is a {wanted} model: use '{block}', or "
            "leave 'history' unconnected"
        )
    return stages, history
