"""Checks of `spectral.py` for guiders of newer hosts, which remember sizes or hold a second model."""

from __future__ import annotations


def check_guidance_of_picture_and_sound_goes_to_their_parts(case):
    import comfy.samplers
    import comfy_extras.nodes_lt as nodes

    if not hasattr(nodes, "Guider_LTXAVDualCFG"):
        return
    latent, lengths = case.inside.models.empty(case.kind), []
    sound = latent.unbind()[1].numel()

    class Watched(nodes.Guider_LTXAVDualCFG):
        def predict_noise(self, x, timestep, model_options={}, seed=None):  # noqa: B006 as the host has it
            made = super().predict_noise(x, timestep, model_options, seed)
            prompts = [self.conds["positive"], self.conds["negative"]]
            wanted, without = comfy.samplers.calc_cond_batch(self.inner_model, prompts, x, timestep, model_options)
            for part, scale in ((slice(None, -sound), 2.0), (slice(-sound, None), 5.0)):
                guided = without[..., part] + scale * (wanted[..., part] - without[..., part])
                case.same(made[..., part], guided)
            lengths.append(x.shape[-1])
            return made

    def guider():
        guider = Watched(case.model)
        guider.set_conds(case.positive, case.negative)
        guider.set_cfg(2.0, 5.0)
        return guider

    one = guider()
    case.sample(case.pyramid(case.middle), guider=one)
    assert len(set(lengths)) == 2 and one._v_numel == latent.unbind()[0].numel()
    case.same(case.sample(case.pyramid(1.0), guider=guider()), case.sample(case.core(), guider=guider()), 0)


def check_two_models_in_one_guider_are_as_one(case):
    import comfy_extras.nodes_custom_sampler as nodes

    if not hasattr(nodes, "Guider_DualModel"):
        return
    guider = nodes.Guider_DualModel(case.model, case.inside.models.make_model(case.kind))
    guider.set_conds(case.positive, case.negative)
    guider.set_cfg(2.0)
    case.same(case.sample(case.pyramid(case.middle), guider=guider), case.sample(case.pyramid(case.middle)))


GUIDERS = {
    check_guidance_of_picture_and_sound_goes_to_their_parts: ("ltx2", "ltx2.5"),
    check_two_models_in_one_guider_are_as_one: ("wan2.1 t2v", "flux", "ltx2"),
}
