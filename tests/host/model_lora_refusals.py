"""What a LoRA for any model refuses, with a sentence, and what it does not."""

from __future__ import annotations

import re
from types import SimpleNamespace

from model_lora_lesson import KINDS, MORE

UNFILLED = ("hunyuan video", "kandinsky 5", "mochi", "wan2.1 vace", "cosmos", "pixart")  # patches are taken whole only
WITH_VECTOR = ("hunyuan video",)
ONE_FRAME = ("flux", "qwen-image", "cosmos predict2 t2i")


def check_what_does_not_fit_is_refused(lesson):
    """Latents of another VAE, and videos for a model of pictures: with the first clip, not in the middle of a run."""
    torch, of_pictures = lesson.torch, lesson.kind in ONE_FRAME
    channels, *frames = lesson.case.inside.models.KINDS[lesson.kind].latent

    def encode(pictures, given=channels):
        many = (1, given, 1 + len(pictures) // 4) if frames else (len(pictures), given)
        vae = SimpleNamespace(encode=lambda pictures: torch.zeros(*many, 8, 8))
        return lesson.host.encode(vae, pictures, lesson.model)

    one, five = torch.zeros(1, 64, 64, 3), torch.zeros(5, 64, 64, 3)
    assert encode(one if of_pictures else five).shape == (1, channels, 1 if of_pictures else 2, 8, 8)
    wanted = f"makes latents of {channels + 1} channels, and .* reads {channels}"
    refused = [(lambda: encode(one, channels + 1), wanted)]
    if of_pictures:
        wanted = f"makes pictures, and the clips have {2 if frames else 5} frames as latents: choose 1 frame"
        refused.append((lambda: encode(five), wanted))
    for work, sentence in refused:
        try:
            work()
            raise AssertionError("it was taken")
        except ValueError as error:
            assert re.search(sentence, str(error)), error


def check_a_vae_of_the_other_kind_is_refused(lesson):
    """A VAE of pictures may have the channels of a video's, and its frames would be learned four times as many."""
    videos = len(lesson.case.inside.models.KINDS[lesson.kind].latent) > 1
    for axes, belongs in ((2, not videos), (3, videos)):
        vae = SimpleNamespace(latent_dim=axes, spacial_compression_encode=lambda: 8)
        try:
            lesson.host.check_sizes(vae, lesson.model, [(256, 256)])
            assert belongs
        except ValueError as error:
            assert not belongs and "wire the VAE that belongs to the model" in str(error), error


def check_texts_of_another_encoder_are_refused(lesson):
    """Twice as wide, or without the vector that some models read; those that belong to the model are not."""
    from pyramid_video.models.model_in_training import ModelClip

    (row,) = lesson.clips.latents.rows
    with lesson.torch.inference_mode(False):
        (own,) = lesson.texts()
        tokens, extras = own
        others = [[tokens.repeat(1, 1, 2), extras], *([[tokens, {}]] if lesson.kind in WITH_VECTOR else [])]
        lesson.host.check_clip(lesson.model, ModelClip(row.latent[None], [own]))
        for text in others:
            try:
                lesson.host.check_clip(lesson.model, ModelClip(row.latent[None], [text]))
                raise AssertionError("it was taken")
            except ValueError as error:
                said = "Load the text encoder" if lesson.kind == "krea 2" else "wire the text encoder that belongs to"
                assert said in str(error), error  # Krea 2 says it itself


def check_sizes_are_refused_that_the_network_cannot_take_and_no_others(lesson):
    """Latents of odd rows and columns: what is refused ends in an error of the network itself, what is not is read."""
    from pyramid_video.models.model_in_training import ModelClip

    torch, cell = lesson.torch, 8
    channels, *frames = lesson.case.inside.models.KINDS[lesson.kind].latent
    vae = SimpleNamespace(spacial_compression_encode=lambda: cell)
    texts = [[row[0], {key: each for key, each in row[1].items() if "concat" not in key}] for row in lesson.texts()]
    seen = set()
    for rows, columns in ((36, 40), (37, 40), (36, 41), (38, 42)):
        said, losses = "", []
        try:
            lesson.host.check_sizes(vae, lesson.model, [(512, 512), (cell * rows + 7, cell * columns)])
        except ValueError as error:
            said = str(error)

        def learn(model, size=(rows, columns), losses=losses):
            latent = lesson.case.inside.models.noise(1, channels, *(frames or (1,)), *size)
            losses.append(float(model.loss(ModelClip(latent, texts), 0.5, torch.zeros)))

        with torch.inference_mode(False):
            whole = lesson.host.whole(lesson.model)
            try:
                lesson.host.train(whole, (channels, *(frames or (1,)), rows, columns), texts, learn)
                taken = True
            except (RuntimeError, AssertionError):
                taken = False
        assert taken == (said == ""), (rows, columns, taken, said)
        assert not taken or torch.isfinite(torch.tensor(losses)).all()
        assert taken or f"clips of {cell * columns}x{cell * rows + 7} pixels" in said and "set multiple to 16" in said
        seen.add((rows, columns) if taken else None)
    assert {(36, 40), (38, 42)} <= seen
    assert lesson.kind not in UNFILLED or seen == {(36, 40), (38, 42), None}


def check_what_does_not_tell_what_it_predicts_is_refused(lesson):
    try:
        lesson.host.check(lesson.model)
        raise AssertionError("it was taken")
    except ValueError as error:
        assert "no LoRA can be trained for it here" in str(error), error


def check_a_step_that_never_fits_gets_a_sentence(lesson):
    """What was learned before is kept, and the model given back."""
    training, steps = lesson.training("full"), []

    def begin_step():
        steps.append(0)
        if len(steps) > 2:
            raise lesson.torch.cuda.OutOfMemoryError("it is full")

    def stretch(model):
        model.begin_step = begin_step
        with training.attached(model) as (run, step):
            run.train(step)

    try:
        lesson.open(stretch)
        raise AssertionError("it learned")
    except ValueError as error:
        words = "does not fit into the memory of cpu", "ComfyUI keeps all weights", "fewer frames"
        assert all(each in str(error) for each in words), error
    again = lesson.train("full").parts()
    for name, (_, up, _) in lesson.train("straight").parts().items():
        assert lesson.torch.equal(up, again[name][1]), name


REFUSED = {
    check_what_does_not_fit_is_refused: ("wan2.1 t2v", "minimax h3", *ONE_FRAME, "cosmos predict2 video"),
    check_sizes_are_refused_that_the_network_cannot_take_and_no_others: (*KINDS, *MORE, "cosmos", "pixart"),
    check_a_vae_of_the_other_kind_is_refused: (*KINDS, *MORE, "cosmos", "pixart"),
    check_texts_of_another_encoder_are_refused: (*KINDS, *MORE),
    check_what_does_not_tell_what_it_predicts_is_refused: ("cogvideox",),
    check_a_step_that_never_fits_gets_a_sentence: ("wan2.1 t2v",),
}
