"""The pyramid on our own models of one size, without ComfyUI: whole runs, drafts, and what finishes a clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pyramid_video.host import use_host
from pyramid_video.host.standalone.any_model import clean_estimate
from pyramid_video.host.standalone.host import StandaloneHost
from pyramid_video.host.standalone.sampling import sample_full_sequence
from pyramid_video.host.standalone.wires import Model
from pyramid_video.models.checkpoint_info import CheckpointInfo
from pyramid_video.models.families import ModelFamily
from pyramid_video.models.fingerprint import fingerprint, shapes_digest
from pyramid_video.models.latent_format import MINIFLUX
from pyramid_video.models.miniflux import MiniFluxConfig, MiniFluxTransformer
from pyramid_video.nodes.any_model import AnySampler, AnyStages, numbers
from pyramid_video.nodes.drafts import rows_of
from pyramid_video.nodes.finish_clip import below, least_level, start_level
from pyramid_video.samplers.drafts import pack_draft, unpack_draft
from pyramid_video.samplers.full_sequence import FlowSampler
from pyramid_video.samplers.noise import draw_noise
from pyramid_video.samplers.spectral_stages import SpectralStages, left_out, work_share
from pyramid_video.samplers.spectrum import WAN

WIDTH, SHAPE = 24, (1, 8, 3, 8, 8)
FLOW, EPSILON, V = (
    ModelFamily("flow"),
    ModelFamily("diffusion", prediction="epsilon", zero_terminal_snr=False),
    ModelFamily("diffusion"),
)
FAMILIES = pytest.mark.parametrize("family", [FLOW, EPSILON, V], ids=["flow", "epsilon", "v"])
EARLY = SpectralStages(levels=(0.7,))


def make_model(family: ModelFamily, seed: int = 1, layers: int = 1) -> Model:
    """A network that answers something, of each of the families that the pyramid can play."""
    config = MiniFluxConfig(
        in_channels=32,
        num_layers=layers,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    network = MiniFluxTransformer(config)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    info = CheckpointInfo(Path("tiny"), "miniflux", config, MINIFLUX, family)
    return Model(network.double().eval().requires_grad_(False), info, torch.device("cpu"), torch.float64)


def prompts(cfg: float = 2.0) -> tuple[list, list, float]:
    texts = [torch.randn(1, 4, WIDTH, generator=torch.Generator().manual_seed(s)) for s in (2, 3)]
    return (*([[text, {"pooled_output": text[:, 0]}]] for text in texts), cfg)


def close(made: torch.Tensor, wanted: torch.Tensor) -> None:
    """Equal but for rounding, whatever the size of what a random network answers."""
    torch.testing.assert_close(made, wanted, rtol=0, atol=1e-4 * float(wanted.std()))


@pytest.fixture
def host(tmp_path):
    made = StandaloneHost(output=tmp_path, silent=True)
    use_host(made)
    yield made.any_model
    use_host(None)


def empty(batch: int = 1) -> dict[str, torch.Tensor]:
    return {"samples": torch.zeros(batch, *SHAPE[1:])}


def make(
    host, model: Model, stages: SpectralStages, batch: int = 1, steps: int = 6, solver: str = "euler", seed: int = 5
):
    sigmas = host.sigmas(model, steps, "simple")
    return host.sample(model, prompts(), solver, stages, sigmas, empty(batch), seed)["samples"]


def test_memory_that_files_are_kept_in_is_free(host, monkeypatch):
    """Reading a large checkpoint fills it; the system gives it back to whoever asks."""
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=15 * 2**30, free=7 * 2**30))
    assert host.free_memory() == 15 * 2**30


def test_one_stage_is_our_own_flow_sampler(host):
    model = make_model(FLOW)
    ours = FlowSampler(5)
    assert host.sigmas(model, 5, "simple").tolist() == pytest.approx(ours.sigmas, abs=1e-6)
    wanted = sample_full_sequence(model, ours, prompts(), empty(), 5, lambda *_: None)["samples"]
    torch.testing.assert_close(make(host, model, SpectralStages((1.0,)), steps=5), wanted, rtol=0, atol=1e-4)


@FAMILIES
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_a_jump_before_the_first_step_is_the_plain_sampler(host, family, solver):
    model = make_model(family)
    plain = make(host, model, SpectralStages((1.0,)), solver=solver)
    close(make(host, model, SpectralStages(levels=(1.0,)), solver=solver), plain)
    assert not torch.allclose(make(host, model, EARLY, solver=solver), plain, atol=1e-2)


@FAMILIES
def test_rows_of_a_batch_are_their_clips_alone(host, family):
    model = make_model(family)
    both = make(host, model, EARLY, batch=2)
    for row in range(2):
        close(both[row : row + 1], make(host, model, EARLY, seed=5 + row))


@FAMILIES
@pytest.mark.parametrize(("stages", "jump"), [(EARLY, 1), (SpectralStages((0.25, 0.5, 1), levels=(0.9, 0.6)), 2)])
def test_a_draft_that_is_finished_is_one_run_to_the_last_bit(host, family, stages, jump):
    model, steps = make_model(family), 8
    draft, clips = host.draft(
        model, prompts(), "euler", stages, host.sigmas(model, steps, "simple"), empty(), [5, 6], jump
    )
    size = int(8 * stages.scales[jump - 1])
    assert clips["samples"].shape == (2, *SHAPE[1:3], size, size)
    made = host.finish_draft(model, prompts(), "euler", {"samples": draft["samples"].clone()})["samples"]
    for row, seed in enumerate((5, 6)):
        assert torch.equal(made[row : row + 1], make(host, model, stages, steps=steps, seed=seed))
    alone = host.finish_draft(model, prompts(), "euler", {"samples": draft["samples"][1:]})["samples"]
    assert torch.equal(alone, made[1:])


@FAMILIES
def test_a_run_begins_with_noise_and_data_as_the_hosts_own_sampler_mixes_them(host, family):
    """EPS and V: `data + sigma noise`, and `data + sqrt(1 + sigma^2) noise` at the highest level; flows mix."""
    model = make_model(family)
    seen, predict = [], model.predict
    model.predict = lambda x, *rest: seen.append(x) or predict(x, *rest)
    data = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
    noise, clean = draw_noise(SHAPE, 5), model.latent_format.normalize(data)
    for denoise, latent in ((0.5, data), (0.5, 0 * data), (1.0, data), (1.0, 0 * data)):
        sigmas = host.sigmas(model, 4, "simple", denoise)
        seen.clear()
        host.sample(model, prompts(1.0), "euler", SpectralStages((1.0,)), sigmas, {"samples": latent}, 5)
        sigma, start = sigmas[0].double(), clean * latent.any()  # an empty latent is not normalised
        if family is FLOW:
            wanted = sigma * noise + (1 - sigma) * start
        else:
            share = (1 + sigma**2).sqrt() if denoise == 1.0 else sigma
            wanted = (start + share * noise) / (1 + sigma**2).sqrt()  # the network is shown a variance of 1
        torch.testing.assert_close(seen[0], wanted.to(seen[0]), rtol=0, atol=1e-5)


def test_what_only_comfyui_can_do_is_refused_and_not_done_otherwise(host):
    model = make_model(FLOW)
    sigmas = host.sigmas(model, 6, "simple")
    masked = {**empty(), "noise_mask": torch.ones(1, 8, 8)}
    draft, _ = host.draft(model, prompts(), "euler", EARLY, sigmas, empty(), [5], 1)
    clip = {"samples": torch.zeros(1, 8, 3, 4, 4)}
    for work, words in [
        (lambda: host.sigmas(model, 6, "karras"), "no scheduler 'karras' .* take 'simple'"),
        (lambda: make(host, model, EARLY, solver="dpmpp_2m"), "no sampler 'dpmpp_2m' .* take 'euler' or 'heun'"),
        (lambda: host.draft(model, prompts(), "lcm", EARLY, sigmas, empty(), [5], 1), "no sampler 'lcm'"),
        (lambda: host.finish_draft(model, prompts(), "lcm", draft), "no sampler 'lcm'"),
        (lambda: host.finish_clip(model, prompts(), "lcm", sigmas, clip, empty(), 5), "no sampler 'lcm'"),
        (lambda: host.finish_clip(model, prompts(), "euler", sigmas, {**masked, **clip}, empty(), 5), "Noise Mask'"),
        (lambda: host.finish_clip(model, prompts(), "euler", sigmas, clip, masked, 5), "'Set Latent Noise Mask'"),
        (lambda: host.sample(model, prompts(), "euler", EARLY, sigmas, masked, 5), "'Set Latent Noise Mask'"),
        (lambda: host.draft(model, prompts(), "euler", EARLY, sigmas, masked, [5], 1), "'Set Latent Noise Mask'"),
    ]:
        with pytest.raises(ValueError, match=words):
            work()


@FAMILIES
def test_a_schedule_that_begins_below_noise_needs_a_clip(host, family):
    model = make_model(family)
    late = host.sigmas(model, 4, "simple", 0.3)
    with pytest.raises(ValueError, match="the latent is empty"):
        host.sample(model, prompts(), "euler", SpectralStages(levels=(0.9,)), late, empty(), 5)
    clip = {"samples": torch.ones(SHAPE)}
    assert host.sample(model, prompts(), "euler", SpectralStages(levels=(0.9,)), late, clip, 5)["samples"].any()


def test_a_draft_takes_other_weights_of_its_network_and_no_other_network(host):
    model, other = make_model(FLOW), make_model(FLOW, seed=2)
    draft, _ = host.draft(model, prompts(), "euler", EARLY, host.sigmas(model, 6, "simple"), empty(), [5], 1)
    made, differs = (host.finish_draft(each, prompts(), "euler", draft)["samples"] for each in (model, other))
    assert not torch.allclose(made, differs, atol=1e-2)
    with pytest.raises(ValueError, match="wire the model that made it"):
        host.finish_draft(make_model(FLOW, layers=2), prompts(), "euler", draft)


@FAMILIES
def test_a_draft_takes_no_model_that_predicts_something_else(host, family):
    """Networks of all families have the same shapes here, as the bundled ones have."""
    model = make_model(family)
    draft, _ = host.draft(model, prompts(), "euler", EARLY, host.sigmas(model, 6, "simple"), empty(), [5], 1)
    for other in (FLOW, EPSILON, V):
        if other != family:
            with pytest.raises(ValueError, match="wire the model that made it"):
                host.finish_draft(make_model(other), prompts(), "euler", draft)


def test_the_digest_of_shapes_is_that_of_saved_drafts():
    assert shapes_digest(torch.nn.Linear(2, 3)) == "110f9777b825"
    assert shapes_digest(torch.nn.Linear(3, 2)) != "110f9777b825"


def test_the_digest_of_shapes_is_the_same_for_a_compiled_network():
    """As a whole or in some of its blocks, as packs compile a model."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    wanted = shapes_digest(network)
    assert shapes_digest(torch.compile(network)) == wanted
    network[0] = torch.compile(network[0])
    assert shapes_digest(network) == wanted


def test_a_draft_of_an_earlier_version_is_finished_by_the_weights_that_it_names(host):
    model = make_model(FLOW)
    draft, _ = host.draft(model, prompts(), "euler", EARLY, host.sigmas(model, 6, "simple"), empty(), [5], 1)
    row = unpack_draft(draft["samples"])
    for digest in (shapes_digest(model.network), fingerprint(model.network)[:12]):
        old = {"samples": pack_draft(replace(row, model=f"miniflux {digest}"))}
        made = host.finish_draft(model, prompts(), "euler", old)["samples"]
        assert torch.equal(made, host.finish_draft(model, prompts(), "euler", draft)["samples"])
    with pytest.raises(ValueError, match="wire the model that made it"):
        host.finish_draft(make_model(FLOW, seed=2), prompts(), "euler", old)


def test_a_draft_is_read_back_and_damage_is_said(host):
    model = make_model(FLOW)
    row = host.draft(model, prompts(), "euler", EARLY, host.sigmas(model, 6, "simple"), empty(), [2**64 - 1], 1)[0]
    row = row["samples"]
    assert torch.equal(pack_draft(unpack_draft(row)), row) and unpack_draft(row).seed == 2**64 - 1
    other = row.clone()
    text = bytes(int(n) for n in other[0, 0, 1 : 1 + int(other[0, 0, 0])].tolist()).replace(
        b'"version": 1', b'"version": 9'
    )
    other[0, 0, 1 : 1 + len(text)] = torch.tensor([float(letter) for letter in text])
    with pytest.raises(ValueError, match="form 9"):
        unpack_draft(other)
    for broken, words in [
        (row[..., :-1], "damaged"),
        (torch.zeros(SHAPE), "not a draft"),
        (torch.zeros(1, 1, 9), "not a draft"),
        (torch.full((1, 1, 9), torch.nan), "not a draft"),
        (row + 0.5, "not a draft"),
    ]:
        with pytest.raises(ValueError, match=words):
            unpack_draft(broken)


def test_a_run_without_that_jump_cannot_be_drafted(host):
    model = make_model(FLOW)
    for stages, jump in [(EARLY, 2), (SpectralStages(levels=(1.0,)), 1)]:
        with pytest.raises(ValueError, match="cannot stop before jump"):
            host.draft(model, prompts(), "euler", stages, host.sigmas(model, 6, "simple"), empty(), [5], jump)


@FAMILIES
def test_a_finished_clip_begins_as_theory_says(host, family):
    """Its low frequencies are the clip's; with no steps but one from hardly any noise it is the clip, enlarged."""
    model = make_model(family)
    clip = torch.randn(1, 8, 3, 4, 4, generator=torch.Generator().manual_seed(7))
    made = host.finish_clip(model, prompts(), "euler", torch.tensor([1e-4, 0.0]), {"samples": clip}, empty(), 5)
    assert made["samples"].shape == SHAPE
    torch.testing.assert_close(made["samples"].mean((-1, -2)), clip.mean((-1, -2)), rtol=0, atol=0.05)


def test_the_clean_estimate_of_a_diffusion_model_is_exact_for_the_noise_it_was_trained_with(host):
    """At a level of the table, with the noise itself as answer, the estimate is the data."""
    model = make_model(EPSILON)
    data, noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(3)).unbind()
    sigma = float(host.sigmas(model, 4, "simple")[1])
    model.predict = lambda x, timestep, history, text: noise.repeat(len(x), 1, 1, 1, 1)
    clean = clean_estimate(model, prompts(), 1)(data + sigma * noise, sigma)
    torch.testing.assert_close(clean, data, rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", [ModelFamily("gan"), ModelFamily()])
def test_models_that_no_pyramid_plays_name_their_own_block(host, family):
    with pytest.raises(ValueError, match="use '"):
        host.info(make_model(family))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scales": (0.5, 0.4, 1.0)}, "rise to 1"),
        ({"scales": (0.5, 0.9)}, "rise to 1"),
        ({"scales": ()}, "rise to 1"),
        ({"delta": 0.0}, "care"),
        ({"levels": (0.5, 0.4)}, "expected 1 of them"),
        ({"levels": (1.2,)}, "share of noise"),
        ({"scales": (0.25, 0.5, 1.0), "levels": (0.5, 0.7)}, "to fall"),
    ],
)
def test_stages_that_make_no_sense_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        SpectralStages(**given)


def test_sizes_that_no_stage_can_have_are_refused():
    with pytest.raises(ValueError, match="less than one patch"):
        SpectralStages((0.1, 1.0)).sizes((8, 8), 2)
    with pytest.raises(ValueError, match="fewer scales or a larger picture"):
        SpectralStages((0.5, 0.6, 1.0)).sizes((4, 4), 2)
    with pytest.raises(ValueError, match="Fit spectrum"):
        SpectralStages().shares((60, 104), "LTXV")
    assert SpectralStages().shares((60, 104), "Wan21") == pytest.approx((0.864,), abs=1e-3)


def test_what_a_run_leaves_out_and_saves_is_told():
    from pyramid_video.samplers.spectral import FLOW as SCALING

    stages = SpectralStages(levels=(0.5,))
    used = stages.plan((8, 8), 2, (1.0, 0.8, 0.4, 0.2, 0.0), SCALING)
    assert left_out(stages, used) == "" and work_share(used, (8, 8)) == pytest.approx((2 / 16 + 2) / 4)
    assert "begins at 0.4" in left_out(stages, stages.plan((8, 8), 2, (0.4, 0.2, 0.0), SCALING))


def test_stages_are_drawn_for_the_plain_sampler_where_no_schedule_is_connected(host):
    model, given = make_model(FLOW), ("1/2", 0.01, "", "0.6", None)
    drawn = AnyStages().build(*given, model, empty(), None)
    same = AnyStages().build(*given, model, empty(), host.sigmas(model, 20, "simple"))
    bare = AnyStages().build(*given, None, None, None)
    assert torch.equal(drawn["result"][1], same["result"][1]) and drawn["result"][0] == same["result"][0]
    assert drawn["result"][1].shape != bare["result"][1].shape
    assert any("20 steps of 'simple'" in line for line in drawn["ui"]["text"])


def test_numbers_are_typed_as_people_type_them():
    assert numbers("1/4, 0.5 1", "x") == (0.25, 0.5, 1.0) and numbers("", "x") == ()
    for text in ("half", "1/0", "nan", "1, inf"):
        with pytest.raises(ValueError, match="input 'x' holds"):
            numbers(text, "x")


def test_drafts_are_chosen_by_number():
    assert rows_of("all", 3) == rows_of("", 3) == [0, 1, 2] and rows_of("3, 1", 3) == [2, 0]
    for text in ("4", "0", "-1", "two", "²"):
        with pytest.raises(ValueError, match="numbers from 1 to 3"):
            rows_of(text, 3)


def test_the_schedule_of_a_finish_ends_as_the_scheduler_does():
    def even(steps: int) -> torch.Tensor:
        return torch.linspace(1, 0, steps + 1)

    assert below(even, 0.45, 3) == pytest.approx([0.4, 0.2, 0.0])
    assert len(below(even, 0.99, 5)) == 5
    assert below(lambda steps: even(steps).repeat_interleave(2), 0.45, 3) == below(even, 0.45, 3)


def test_more_steps_than_a_model_has_levels_are_the_levels_that_it_has(host):
    model, clip = make_model(FLOW), {"samples": torch.ones_like(empty()["samples"])}
    often = host.sigmas(model, 60, "simple", 0.05)
    assert len(often) == 61 and len(often.unique()) < 61
    given = (model, 5, 60, 2.0, "euler", "simple", *prompts()[:2], clip, 0.05, EARLY)
    made = AnySampler().sample(*given)
    once = host.sample(model, prompts(), "euler", EARLY, often.unique(sorted=True).flip(0), clip, 5)
    assert torch.equal(made["result"][0]["samples"], once["samples"])
    assert f"{len(often.unique()) - 1} at 8x8" in made["ui"]["text"][0]


def test_detail_needs_the_noise_that_hides_it():
    least = least_level("", (30, 52), (60, 104), 0.01, WAN)
    assert least == pytest.approx(0.864, abs=1e-3)
    assert least_level("", (40, 69), (60, 104), 0.01, WAN) < least


def test_a_finish_never_begins_where_detail_stays_blurred():
    sizes = (30, 52), (60, 104)
    least = least_level("", *sizes, 0.01, WAN)
    for asked in (0.0, 0.5):
        begin, said = start_level(asked, "", *sizes, 0.01, WAN)
        assert begin == least and bool(said) == bool(asked)
    assert start_level(0.95, "", *sizes, 0.01, WAN) == (0.95, [])
    begin, said = start_level(0.7, "LTXV", *sizes, 0.01, None)
    assert begin == 0.7 and "Fit spectrum" in said[0]
    with pytest.raises(ValueError, match="Fit spectrum"):
        start_level(0.0, "LTXV", *sizes, 0.01, None)
