"""Gradients of the host's fused rotary embeddings, in every form of them that this host has."""

from __future__ import annotations

from model_lora_lesson import NotInThisHost

SHAPE = (2, 7, 3, 16)  # batch, tokens, heads, features
STEP = 1e-2  # along a direction, for a difference quotient in float32


def check_fused_rotations_have_the_gradient_of_what_they_compute(lesson):
    """Along a random direction, against difference quotients of the host's own operation."""
    from pyramid_video.host.comfyui.rotation_gradients import ROTATIONS, give_rotations_gradients

    torch = lesson.torch
    known = [name for name in ROTATIONS if hasattr(torch.ops.comfy_kitchen, name)]
    if not known:
        raise NotInThisHost
    give_rotations_gradients()
    with torch.inference_mode(False), torch.enable_grad():
        for name in known:
            slope, quotient = slopes(lesson, getattr(torch.ops.comfy_kitchen, name), ROTATIONS[name][0])
            assert abs(slope - quotient) < 0.01 * abs(slope) + 0.05, (name, slope, quotient)


def slopes(lesson, operation, learned):
    """The slope of a sum of an operation's outputs along a direction, and the difference quotient there."""
    torch, noise = lesson.torch, lesson.case.inside.models.noise
    _, tokens, _, features = SHAPE
    angles = noise(1, tokens, 1, features // 2, seed=1)
    turns = torch.stack((angles.cos(), -angles.sin(), angles.sin(), angles.cos()), -1).unflatten(-1, (2, 2))
    scales = {name: noise(features, seed=seed) for seed, name in enumerate(("scale", "q_scale", "k_scale"), 2)}
    rest = [scales[each.name] for each in operation.default._schema.arguments if each.name in scales]
    rest += [1e-6] if rest else []
    inputs, ways, weights = ([noise(*SHAPE, seed=seed + n) for n in range(learned)] for seed in (5, 8, 11))

    def total(values):
        made = operation(*values, turns, *rest)
        made = made if isinstance(made, tuple) else (made,)
        return sum((each * weight).sum() for each, weight in zip(made, weights, strict=True))

    begun = [x.clone().requires_grad_() for x in inputs]
    found = torch.autograd.grad(total(begun), begun)
    up, down = (float(total([x + step * way for x, way in zip(inputs, ways, strict=True)])) for step in (STEP, -STEP))
    slope = sum(float((each * way).sum()) for each, way in zip(found, ways, strict=True))
    return slope, (up - down) / (2 * STEP)


ROTATED = {check_fused_rotations_have_the_gradient_of_what_they_compute: ("wan2.1 t2v",)}
