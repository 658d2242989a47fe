"""The names of solvers and schedules. Loads nothing, so that widgets can list them."""

MOST_STAGES = 6  # that a block makes; the first is then 32 times smaller
SOLVER_NAMES = ("euler", "heun", "midpoint")
STAGE_SOLVER_NAMES = ("euler", "unipc", "dmd")
DISTILLED_SOLVERS = ("dmd",)  # of those: for distilled models, with noise levels of their own; they follow no flow
ANY_MODEL_SOLVERS = ("euler", "heun")  # of the pyramid for any model where there is no ComfyUI, as ComfyUI calls them
ANY_MODEL_SCHEDULERS = ("simple",)  # likewise
SCHEDULES = ("cosine", "linear")
PREDICTIONS = ("v", "epsilon")
