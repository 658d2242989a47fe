"""How each kind of pyramidal model is sampled: the size of its units, and what is used where nothing is wired."""

from __future__ import annotations

from dataclasses import dataclass

from .guidance import PyramidGuidance
from .helios_history import HELIOS_UNITS, HeliosHistory
from .helios_stages import make_helios_stages
from .history import History, PyramidHistory
from .model_kinds import HELIOS, PYRAMID_FLOW
from .sigma_schedule import TokenShift
from .stages import PyramidStages, Steps, make_stages
from .units import ONE_FRAME, Units

KINDS = {"helios": HELIOS}  # kind of transformer: whose stages and history it needs; all others are Pyramid Flow's
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
    shift = TokenShift("linear" if solver == "dmd" else "exponential")
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
DEFAULT_VARIANT = {PYRAMID_FLOW: "", HELIOS: "distilled"}  # the variant that most people have


def made_for(kind: str) -> str:
    """Whose stages and history a transformer of this kind needs."""
    return KINDS.get(kind, PYRAMID_FLOW)


def units_of(kind: str) -> Units:
    """How many latent frames a transformer of this kind makes at once."""
    return UNITS[made_for(kind)]


def default_for(history: History) -> tuple[PyramidStages, Units]:
    """The default stages and units of the models that a history is for."""
    return PRESETS[DEFAULT_VARIANT[history.made_for]].stages, UNITS[history.made_for]


def resolve_defaults(
    kind: str, variant: str, name: str, stages: PyramidStages | None, history: History | None
) -> tuple[PyramidStages, History]:
    """The stages and history to sample the model `name` with: those given, else those of its variant.

    ValueError where one was made for another kind of model.
    """
    preset, wanted = PRESETS[variant], made_for(kind)
    stages, history = stages or preset.stages, history or preset.history
    if stages.made_for != wanted:
        raise ValueError(
            f"'stages' is a ladder of {stages.made_for}, but {name} is a {wanted} model: set 'made_for' in "
            f"'Pyramid stages' to {wanted}, or leave 'stages' open"
        )
    if history.made_for != wanted:
        block = "Temporal conditioning (Helios)" if wanted == HELIOS else "Temporal conditioning"
        raise ValueError(
            f"'history' is a memory of {history.made_for}, but {name} is a {wanted} model: use '{block}', or leave "
            "'history' open"
        )
    return stages, history
