"""A volume reader of every family: the original model where there is one slice, and what is learnt, saved and said."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from image_text import KINDS, SIDE, as_patches, make_model
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from voxmoe.errors import QuestionError, WeightsError
from voxmoe.imaging.windows import PictureSettings
from voxmoe.model.adaptation import AdaptationSettings
from voxmoe.model.image_text import FreshBase, PretrainedBase
from voxmoe.model.language import LanguageSettings, LoraSettings
from voxmoe.model.reader import ReaderConfig, ReaderSettings, Stage, VolumeReader
from voxmoe.model.reading import ReaderProcessor, chat_form
from voxmoe.model.task_experts import TaskExpertSettings
from voxmoe.model.towers import FAMILIES
from voxmoe.training.trainer import lighten

FAMILY_KINDS = [name for name in KINDS if name not in ("llava-two-layers", "internvl-normed")]
every_family = pytest.mark.parametrize("name", FAMILY_KINDS)
LORA = LoraSettings(rank=2, alpha=4, dropout=0.0)
LABELS = ("liver", "left lung")
EXPERTS = TaskExpertSettings(blocks=2, experts=2, rank=4)
COLOURS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@pytest.fixture(scope="module")
def folders(tiny_language: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved 2D model of every kind, with a tokenizer."""
    root = tmp_path_factory.mktemp("image-text")
    tokenizer = AutoTokenizer.from_pretrained(tiny_language)
    for name in FAMILY_KINDS:
        model = make_model(name)
        text = model.config.get_text_config()
        model.resize_token_embeddings(len(tokenizer)) if text.vocab_size < len(tokenizer) else None
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
        (root / name / "preprocessor_config.json").write_text(json.dumps(COLOURS))
    return {name: root / name for name in FAMILY_KINDS}


def settings_of(folder: Path, **changes: Any) -> ReaderSettings:
    size = {"size": SIDE} if folder.name != "qwen2_5_vl" else {"size": 24}
    pictures = PictureSettings(depth=3, **size)
    base = PretrainedBase(name=str(folder), dtype="fp32")
    return ReaderSettings(**{"base": base, "pictures": pictures, "lora": LORA, **changes})


def reader_of(folder: Path, **changes: Any) -> VolumeReader:
    return VolumeReader(ReaderConfig.of(settings_of(folder, **changes))).eval()


def guided(folder: Path, **changes: Any) -> VolumeReader:
    """With experts and routers that matter."""
    reader = reader_of(folder, experts=EXPERTS.model_copy(update=changes))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in reader.named_parameters():
            if ".experts." in name or ".task_router." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return reader


def pictures(reader: VolumeReader, volumes: int = 2, depth: int = 3, seed: int = 3) -> Tensor:
    size = reader.settings.pictures.size
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (volumes, depth, 1, size, size), dtype=torch.uint8, generator=generator)


def batch_of(reader: VolumeReader, questions: list[str], answers: list[str] | None = None) -> dict[str, Any]:
    return dict(ReaderProcessor.of(reader)(questions, answers=answers))


# --------------------------------------------------------------------------------------------------- the original model


@every_family
@torch.no_grad()
def test_one_slice_is_read_as_the_original_model_reads_an_image(name: str, folders: dict[str, Path]) -> None:
    """As the whole model reads it, loaded by itself, with the picture's tokens in place of placeholders."""
    reader = reader_of(folders[name])
    pixels = pictures(reader, 1, 1)
    batch = batch_of(reader, ["where is it?"])
    found = reader(**batch, pixels=pixels).logits
    model = AutoModelForImageTextToText.from_pretrained(folders[name], dtype=torch.float32).eval()
    images = (pixels[0].expand(-1, 3, -1, -1) / 255 - 0.5) / 0.5
    seen = reader.look(pixels).fused.tokens.shape[1]
    image = getattr(model.config, "image_token_id", None) or model.config.image_token_index
    ids = torch.cat([batch["prefix_ids"], torch.full((1, seen), image), batch["prompt_ids"]], dim=1)
    shown = (ids == image).long()
    given: dict[str, Any] = {"pixel_values": images}
    if name in ("idefics3", "smolvlm"):
        given = {"pixel_values": images[None]}
    elif name == "gemma3":
        given |= {"token_type_ids": shown}
    elif name == "paligemma":
        given |= {"token_type_ids": torch.zeros_like(ids)}
    elif name == "qwen2_5_vl":
        patches, grid = as_patches(model, images)
        given = {"pixel_values": patches, "image_grid_thw": grid, "mm_token_type_ids": shown}
    expected = model(input_ids=ids, **given).logits[:, -1]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@every_family
def test_adapters_and_experts_start_at_zero(name: str, folders: dict[str, Path]) -> None:
    reader = reader_of(folders[name], experts=EXPERTS)
    last = [p for key, p in reader.named_parameters() if ".lora_B." in key or key.endswith(".up.weight")]
    assert last
    assert not any(parameter.any() for parameter in last)


@every_family
@torch.no_grad()
def test_a_prompt_is_read_alone_as_in_a_batch(name: str, folders: dict[str, Path]) -> None:
    """Whatever pads it, whichever volumes are beside it, and whether its volume was looked at before."""
    reader = reader_of(folders[name])
    questions = ["where?", "how many are there in the left lung?", "is it large?"]
    pixels, volume = pictures(reader), torch.tensor([1, 0, 1])
    together = reader(**batch_of(reader, questions), pixels=pixels, volume=volume).logits
    for row, question in enumerate(questions):
        batch = batch_of(reader, [question])
        view = reader.view(batch["prompt_ids"], batch["prompt_mask"], pixels[volume[row]][None])
        alone = reader(**batch, view=view).logits
        torch.testing.assert_close(together[row], alone[0], atol=2e-4, rtol=2e-4)


@every_family
@torch.no_grad()
def test_what_is_said_is_the_likeliest_word_after_word(name: str, folders: dict[str, Path]) -> None:
    reader = reader_of(folders[name])
    batch, pixels = batch_of(reader, ["where is it?"]), pictures(reader, 1)
    said = reader.generate(**batch, pixels=pixels, max_new_tokens=4)[0]
    view = reader.view(batch["prompt_ids"], batch["prompt_mask"], pixels)
    for length, word in enumerate(said.tolist()):
        words = torch.arange(len(reader.tokenizer))[:, None]
        answers = torch.cat([said[:length].expand(len(words), -1), words], dim=1)
        likely = reader.log_likelihoods(
            **batch, view=view, answer_ids=answers, answer_mask=torch.ones_like(answers),
            whose=torch.zeros(len(words), dtype=torch.int64),
        )  # fmt: skip
        assert float(likely.max() - likely[word]) < 1e-4
        if word in reader._ends:
            break


@every_family
@pytest.mark.parametrize("pool", [1, 2])
@torch.no_grad()
def test_a_shallow_volume_beside_a_deep_one_is_read_as_alone(name: str, pool: int, folders: dict[str, Path]) -> None:
    reader = reader_of(folders[name], adaptation=AdaptationSettings(pool=pool))
    questions, pixels = ["where?", "how many are there in the left lung?"], pictures(reader)
    present = torch.tensor([[True, False, False], [True, True, True]])
    indices = torch.arange(3.0).expand(2, -1)
    batch = batch_of(reader, questions)
    together = reader(**batch, pixels=pixels, indices=indices, present=present).logits
    said = reader.generate(**batch, pixels=pixels, indices=indices, present=present, max_new_tokens=2)
    for row, depth in enumerate((1, 3)):
        one = batch_of(reader, [questions[row]])
        alone = {"pixels": pixels[row : row + 1, :depth], "indices": indices[:1, :depth]}
        torch.testing.assert_close(together[row], reader(**one, **alone).logits[0], atol=2e-4, rtol=2e-4)
        assert torch.equal(said[row], reader.generate(**one, **alone, max_new_tokens=2)[0])


@pytest.mark.parametrize("name", ["gemma3", "paligemma", "qwen2_5_vl"])
@torch.no_grad()
def test_a_blind_reader_of_every_layout_reads_texts_alone(name: str, folders: dict[str, Path]) -> None:
    reader = reader_of(folders[name], blind=True)
    together = reader(**batch_of(reader, ["where?", "how many are there in the left lung?"])).logits
    torch.testing.assert_close(together[:1], reader(**batch_of(reader, ["where?"])).logits, atol=2e-4, rtol=2e-4)


@every_family
@torch.no_grad()
def test_the_loss_is_that_of_the_answers_one_by_one(name: str, folders: dict[str, Path]) -> None:
    reader = reader_of(folders[name])
    questions, answers = ["where?", "how many are there?"], ["in the left lung", "two"]
    pixels = pictures(reader)
    together = reader(**batch_of(reader, questions, answers), pixels=pixels).loss
    alone = [
        reader(**batch_of(reader, [question], [answer]), pixels=pixels[row : row + 1]).loss
        for row, (question, answer) in enumerate(zip(questions, answers, strict=True))
    ]
    torch.testing.assert_close(together, torch.stack(alone).mean(), atol=1e-4, rtol=1e-4)


@every_family
@torch.no_grad()
def test_an_answer_is_as_likely_as_the_loss_of_all_its_tokens_says(name: str, folders: dict[str, Path]) -> None:
    """Several answers of different length to each of two prompts, which are read once."""
    reader = reader_of(folders[name])
    processor, pixels = ReaderProcessor.of(reader), pictures(reader)
    questions, whose = ["where?", "how many are there?"], [0, 1, 1, 0, 1]
    answers = ["A. left", "B. twenty-two", "A. two", "B. in the right lung", "C. 2"]
    told = processor.padded_answers([processor.answer(answer) for answer in answers])
    found = reader.log_likelihoods(**batch_of(reader, questions), **told, whose=torch.tensor(whose), pixels=pixels)
    for likelihood, answer, prompt in zip(found, answers, whose, strict=True):
        batch = batch_of(reader, [questions[prompt]], [answer])
        loss = reader(**batch, pixels=pixels[prompt][None]).loss * batch["answer_mask"].sum()
        torch.testing.assert_close(likelihood, -loss, atol=1e-3, rtol=1e-4)


# ---------------------------------------------------------------------------------------------------------- what learns


@every_family
def test_the_shared_stage_teaches_what_it_says(name: str, folders: dict[str, Path]) -> None:
    reader = reader_of(folders[name])
    names = set(reader.learn("shared"))
    batch = batch_of(reader, ["where?", "how?"], ["left", "two"])
    reader(**batch, pixels=pictures(reader)).loss.backward()
    touched = {key for key, parameter in reader.named_parameters() if parameter.grad is not None}
    assert touched == names
    assert any(".lora_" in key for key in names)
    assert not any(key.endswith("embed_tokens.weight") for key in names)


def test_the_slices_stage_teaches_the_whole_tower_and_its_tissues(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = reader_of(folders["smolvlm"], labels=LABELS, adaptation=AdaptationSettings(layers="none"))
    names = set(reader.learn("slices"))
    pixels = pictures(reader, 2, 1)
    shares = torch.rand(2, 2, 16) / 2
    output = reader(**batch_of(reader, ["a?", "b?"], ["c", "d"]), pixels=pixels, shares=shares)
    output.loss.backward()
    assert set(output.losses) == {"text", "dense", "naming"}
    assert {key for key, parameter in reader.named_parameters() if parameter.grad is not None} == names
    assert {key for key, _ in reader.adaptation.tower.named_parameters(prefix="model.model.vision_model")} <= names
    names = set(reader.learn("tissues"))
    reader.zero_grad()
    monkeypatch.setattr(reader, "_decode", None)
    output = reader(**batch_of(reader, ["a?", "b?"]), pixels=pixels, shares=shares)
    output.loss.backward()
    assert set(output.losses) == {"dense", "naming"}, "no text is read"
    assert {key for key, parameter in reader.named_parameters() if parameter.grad is not None} == names
    assert not any(".lora_" in key for key in names)
    monkeypatch.undo()
    with pytest.raises(WeightsError, match="cover 9 patches, and the tower sees 16"):
        reader(**batch_of(reader, ["a?"], ["c"]), pixels=pixels[:1], shares=torch.rand(1, 2, 9))


def test_tissues_of_a_volume_are_named_by_groups_of_slices(folders: dict[str, Path]) -> None:
    """Of a volume of three slices, two at a time, and one of a single slice."""
    reader = reader_of(folders["smolvlm"], labels=LABELS, adaptation=AdaptationSettings(pool=2))
    present = torch.tensor([[True, True, True], [True, False, False]])
    shares = torch.rand(4, 2, 16, generator=torch.Generator().manual_seed(0)) / 50
    view = reader.view(
        **{"prompt_ids": torch.tensor([[5]] * 2), "prompt_mask": torch.ones(2, 1, dtype=torch.int64)},
        pixels=pictures(reader),
        present=present,
    )
    most = torch.stack([shares[:2].amax(dim=0), shares[2], shares[3]])
    expected = reader.naming.loss(view.seen.tokens[[0, 0, 1], [0, 1, 0]], most)
    batch = batch_of(reader, ["a?", "b?"])
    torch.testing.assert_close(reader(**batch, view=view, shares=shares).losses["naming"], expected)


def calls_of(reader: VolumeReader, batch: dict[str, Any]) -> int:
    """How often the language model is called for a batch's loss."""
    calls: list[int] = []
    handle = reader.language_model.register_forward_hook(lambda *_: calls.append(1))
    reader(**batch)
    handle.remove()
    return len(calls)


@every_family
def test_prompts_of_like_length_are_read_together_to_the_same_loss(
    name: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = reader_of(folders[name])
    drawing = reader.settings.model_copy(update={"lora": LORA.model_copy(update={"dropout": 0.1})})
    learning = [dict(reader.named_parameters())[key] for key in sorted(reader.learn("shared"))]
    answers = ["left", "it is seen on both sides, above and below, and all is as it should be", "two", "no"]
    batch = batch_of(reader, ["where is it, and how large would you say that it is?", "how?", "what?", "?"], answers)
    batch |= {"pixels": pictures(reader), "volume": torch.tensor([0, 1, 1, 0])}
    batch["present"] = torch.tensor([[True, True, True], [True, False, False]])
    counted, found = [], []
    for worth in (0, 10**6):
        monkeypatch.setattr("voxmoe.model.reader._WORTH", worth)
        counted.append(calls_of(reader, batch))
        loss = reader(**batch).loss
        found.append([loss, *torch.autograd.grad(loss, learning)])
    assert counted[0] > 2 > counted[1], "several groups, and a volume before them where it is read once"
    assert len(reader._read_together([1, 9], [1, 99])) == 1, "it is not worth it"
    monkeypatch.setattr("voxmoe.model.reader._WORTH", 0)
    assert len(reader._read_together([1, 9], [1, 99])) == 2
    for changes in ({"parted": False}, {"settings": drawing}):
        with monkeypatch.context() as patch:
            for key, value in changes.items():
                patch.setattr(reader.train(), key, value)
            assert calls_of(reader, batch) == 1, "neither in groups nor after volumes read once"
    for apart, together in zip(*found, strict=True):
        torch.testing.assert_close(apart, together, atol=1e-5, rtol=1e-4)


@every_family
@torch.no_grad()
def test_a_volume_is_read_once_for_all_prompts_about_it(name: str, folders: dict[str, Path]) -> None:
    """Where no token sees what comes after it; a shallow volume beside a deep one."""
    reader = reader_of(folders[name])
    batch = batch_of(reader, ["where is it, and how large?", "how?", "what?"])
    answers = ReaderProcessor.of(reader).padded_answers([[5, 6, 7], [8]])
    whose, present = torch.tensor([2, 0]), torch.tensor([[True, True, True], [True, False, False]])
    volumes = {"pixels": pictures(reader), "present": present, "volume": torch.tensor([0, 1, 1])}
    view = reader.view(batch["prompt_ids"], batch["prompt_mask"], **volumes)
    opened = reader.opened(batch["prefix_ids"], view)
    assert (opened.opening is None) == (name in ("gemma3", "paligemma"))
    lengths: list[int] = []
    reader.language_model.register_forward_hook(lambda *told: lengths.append(told[2].last_hidden_state.shape[1]))
    asked = batch["prompt_ids"].shape[1]
    for own, read in ((opened, asked), (view, asked + batch["prefix_ids"].shape[1] + view.seen.fused.tokens.shape[1])):
        logits = reader(**batch, view=own).logits
        said = reader.generate(**batch, view=own, max_new_tokens=3)
        likely = reader.log_likelihoods(**batch, **answers, whose=whose, view=own)
        assert lengths[0] == read or opened.opening is None
        lengths.clear()
        found = (logits, said, likely) if own is opened else found
    torch.testing.assert_close((logits, said, likely), found, atol=2e-4, rtol=2e-4)


def test_no_volume_is_read_once_where_what_was_read_is_not_kept_or_a_window_counts(folders: dict[str, Path]) -> None:
    reader = reader_of(folders["llava"])
    batch = batch_of(reader, ["where?", "how?"])
    whose = torch.tensor([0, 0])
    view = reader.view(batch["prompt_ids"], batch["prompt_mask"], pictures(reader, 1), volume=whose)
    assert reader.opened(batch["prefix_ids"], view).opening is not None
    reader.language_model.activation_checkpointing_enable()
    assert reader.opened(batch["prefix_ids"], view).opening is not None, "it keeps all but in training"
    assert reader.train().opened(batch["prefix_ids"], view).opening is None
    reader = reader_of(folders["llava"])
    config = reader.language_model.config
    config.layer_types = ["sliding_attention"] * config.num_hidden_layers
    config.sliding_window = 4
    assert reader.opened(batch["prefix_ids"], view).opening is None


def test_the_router_learns_from_every_prompt_about_a_volume(folders: dict[str, Path]) -> None:
    """A volume is seen once for all prompts of a group, and each prompt counts."""
    reader = reader_of(folders["smolvlm"], experts=EXPERTS).train()  # in training each goes to its task's group
    prompts = ["where?", "how?", "what does the volume show?"]
    batch = batch_of(reader, prompts)
    whose, task = torch.tensor([0, 0, 0]), torch.tensor([0, 0, 1])
    view = reader.view(batch["prompt_ids"], batch["prompt_mask"], pictures(reader, 1), volume=whose, task=task)
    assert view.routing is not None
    assert view.whose.tolist() == [0, 0, 1]
    assert len(view.routing.groups) == 2
    alone = [batch_of(reader, [prompt]) for prompt in prompts]
    losses = [
        reader.view(one["prompt_ids"], one["prompt_mask"], pictures(reader, 1), task=task[[n]]).routing.task_loss
        for n, one in enumerate(alone)
    ]
    torch.testing.assert_close(view.routing.task_loss, torch.stack(losses).mean())


def test_the_dense_loss_is_least_where_the_shares_are_told() -> None:
    from voxmoe.model.reader import _dense_loss

    shares = torch.tensor([[[0.25, 0.0], [0.25, 1.0]]])
    told = torch.tensor([[[0.5, 0.25, 0.25], [1e-9, 1e-9, 1.0]]]).log()
    least = _dense_loss(told, shares)
    mixed, weights = 0.5 * math.log(2) + 0.5 * math.log(4), (2**0.5, 1.0)  # one label is in half of the patches
    assert float(least) == pytest.approx(weights[0] * mixed / sum(weights), rel=1e-4)
    for _ in range(5):
        assert _dense_loss(told + torch.randn(1, 2, 3), shares) > least


def test_a_blind_reader_reads_texts_alone(folders: dict[str, Path]) -> None:
    reader = reader_of(folders["smolvlm"], blind=True)
    assert all(".lora_" in name for name in reader.learn("shared"))
    batch = batch_of(reader, ["where?"])
    with torch.no_grad():
        assert torch.equal(reader(**batch).logits, reader(**batch, pixels=pictures(reader, 1)).logits)
    with pytest.raises(WeightsError, match="blind and has no adapters"):
        reader_of(folders["smolvlm"], blind=True, lora=None).learn("shared")


@every_family
@torch.no_grad()
def test_the_second_stage_starts_as_the_first_ended(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    first = reader_of(folders[name])
    for parameter in first.own_state().values():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    first.save_pretrained(tmp_path)
    second = reader_of(folders[name], experts=EXPERTS)
    new = second.start_from(tmp_path)
    assert new
    assert all(".experts." in key or ".task_router." in key for key in new)
    batch, pixels = batch_of(first, ["where?", "how many?"]), pictures(first)
    assert torch.equal(second(**batch, pixels=pixels).logits, first(**batch, pixels=pixels).logits)


@every_family
def test_the_second_stage_teaches_experts_and_routers_alone(name: str, folders: dict[str, Path]) -> None:
    reader = guided(folders[name]).train()
    names = set(reader.learn("experts"))
    batch = batch_of(reader, ["where?", "how?", "which?"], ["left", "two", "no"])
    output = reader(**batch, pixels=pictures(reader), volume=torch.tensor([0, 0, 1]), task=torch.tensor([0, 1, 1]))
    output.loss.backward()
    assert set(output.losses) == {"text", "routing"}
    assert {key for key, parameter in reader.named_parameters() if parameter.grad is not None} == names
    assert all(".experts." in key or ".task_router." in key for key in names)


@pytest.mark.parametrize("soft", [False, True])
@torch.no_grad()
def test_prompts_of_several_tasks_about_one_volume_are_read_as_alone(soft: bool, folders: dict[str, Path]) -> None:
    reader = guided(folders["smolvlm"], soft=soft)
    questions = ["where?", "how many are there in the left lung?", "is it large?", "describe it"]
    pixels, volume = pictures(reader), torch.tensor([1, 0, 1, 1])
    batch = batch_of(reader, questions)
    reader.calibrate([batch])  # tells prompts apart
    together = reader(**batch, pixels=pixels, volume=volume).logits
    view = reader.view(batch["prompt_ids"], batch["prompt_mask"], pixels, volume=volume)
    assert view.routing is not None
    assert len(view.seen.tokens) <= len(questions)
    assert soft or len(set(view.routing.groups[:, 0].tolist())) > 1  # else this shows nothing
    for row, question in enumerate(questions):
        alone = reader(**batch_of(reader, [question]), pixels=pixels[volume[row]][None]).logits
        torch.testing.assert_close(together[row], alone[0], atol=2e-4, rtol=2e-4)


# ------------------------------------------------------------------------------------------------------ saving, loading


@every_family
def test_a_saved_reader_says_the_same(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    reader = reader_of(folders[name], lettered=False)
    with torch.no_grad():
        for parameter in reader.own_state().values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    reader.save_pretrained(tmp_path)
    ReaderProcessor.of(reader).save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert isinstance(again, VolumeReader)
    assert AutoConfig.from_pretrained(tmp_path).parsed == again.settings
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert not processor.lettered
    batch, pixels = dict(processor(["where is it?"])), pictures(reader, 1)
    with torch.no_grad():
        torch.testing.assert_close(again(**batch, pixels=pixels).logits, reader(**batch, pixels=pixels).logits)
    kept = {name for name in again.own_state() if ".lora_" not in name}
    assert kept
    assert not any("embed_tokens" in key or "lm_head" in key for key in kept)


def test_another_model_under_a_recorded_fingerprint_is_refused(folders: dict[str, Path]) -> None:
    base = reader_of(folders["llava"]).settings.base
    assert isinstance(base, PretrainedBase)
    other = base.model_copy(update={"name": str(folders["smolvlm"])})
    with pytest.raises(WeightsError, match="are not those that the reader was made of"):
        VolumeReader(ReaderConfig.of(settings_of(folders["smolvlm"], base=other)))


def test_a_reader_starts_from_another_s_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    first = reader_of(folders["smolvlm"], adaptation=AdaptationSettings(layers="none"), labels=LABELS)
    with torch.no_grad():
        first.dense.weight.fill_(3.0)
    first.save_pretrained(tmp_path)
    second = reader_of(folders["smolvlm"], labels=LABELS)
    assert second.start_from(tmp_path) == []
    assert bool((second.dense.weight == 3.0).all())
    grown_up = reader_of(folders["smolvlm"])
    assert grown_up.start_from(tmp_path) == []
    assert set(grown_up.own_state()) == {key for key in second.own_state() if not key.startswith(("dense", "naming"))}
    for changes in ({"labels": (*LABELS, "spleen")}, {"labels": LABELS, "lora": None}):
        with pytest.raises(WeightsError, match="not a start for this model"):
            reader_of(folders["smolvlm"], **changes).start_from(tmp_path)


def test_wrong_models_and_settings_are_refused(folders: dict[str, Path], tiny_language: Path) -> None:
    with pytest.raises(WeightsError, match="tower takes pictures of 16 x 16 pixels"):
        reader_of(folders["llava"], pictures=PictureSettings(size=32))
    with pytest.raises(WeightsError, match="is a llama; known families are"):
        reader_of(folders["llava"], base=PretrainedBase(name=str(tiny_language)))
    with pytest.raises(WeightsError, match="not those of this version"):
        ReaderConfig({"base": {"kind": "pretrained", "name": "x", "colour": 1}})


@every_family
@torch.no_grad()
def test_the_cost_of_experts_is_told_for_every_family(name: str, folders: dict[str, Path]) -> None:
    """With as many tokens as go through them."""
    assert reader_of(folders[name]).expert_cost(3) is None
    reader = reader_of(folders[name], experts=EXPERTS)
    cost = reader.expert_cost(3)
    assert cost is not None
    batch = batch_of(reader, ["where?"])
    routing = reader.view(batch["prompt_ids"], batch["prompt_mask"], pictures(reader, 1)).routing
    assert routing is not None
    (tokens,) = set(routing.usage.counts.sum(dim=(1, 2)).tolist())
    assert cost == reader.adaptation.expert_cost(tokens)
    assert cost.flops > 0


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("native", [False, True])
def test_auto_holds_bf16_alone_as_it_is_stored(
    stored: torch.dtype, native: bool, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxmoe.model.image_text.multiplies_bf16", lambda: native)
    base = PretrainedBase(name=str(stored_as(stored, folders, tmp_path)))
    kept = torch.bfloat16 if native and stored is torch.bfloat16 else torch.float32
    assert reader_of(folders["smolvlm"], base=base).language_model.get_input_embeddings().weight.dtype == kept


@pytest.mark.parametrize("stage", ["shared", "together", "whole"])
def test_all_that_learns_is_held_in_single_precision(stage: Stage, folders: dict[str, Path], tmp_path: Path) -> None:
    base = PretrainedBase(name=str(stored_as(torch.bfloat16, folders, tmp_path)), dtype="bf16")
    reader = reader_of(folders["smolvlm"], base=base, experts=EXPERTS, labels=LABELS).train()
    assert reader.language_model.get_input_embeddings().weight.dtype == torch.bfloat16
    names = reader.learn(stage)
    assert {key: parameter.dtype for key, parameter in reader.named_parameters() if key in names} == dict.fromkeys(
        names, torch.float32
    )
    batch = batch_of(reader, ["where?", "how?"], ["left", "two"])
    reader.calibrate([batch])
    reader(**batch, pixels=pictures(reader), task=torch.tensor([0, 1])).loss.backward()
    assert reader.adaptation.task_router.standardise.mean.dtype == torch.float32


def test_adapters_that_are_frozen_are_not_rounded_in_bf16(folders: dict[str, Path]) -> None:
    reader = reader_of(folders["smolvlm"], experts=EXPERTS)
    reader.learn("experts")
    lighten(reader)
    kinds = {name: weight.dtype for name, weight in reader.language_model.named_parameters()}
    assert {kind for name, kind in kinds.items() if ".lora_" in name} == {torch.float32}
    assert {kind for name, kind in kinds.items() if ".base_layer.weight" in name} == {torch.bfloat16}


def test_a_volume_has_to_fit_the_language_model(folders: dict[str, Path]) -> None:
    reader = reader_of(folders["smolvlm"])
    batch, pixels = batch_of(reader, ["where?"], ["left"]), pictures(reader, 1)
    whole = reader(**batch, pixels=pixels)
    assert whole.loss is not None
    reader.language_model.config.max_position_embeddings = 8
    with pytest.raises(
        WeightsError, match=r"tokens, slices and words, is longer than the 8 positions.*pictures\.depth"
    ):
        reader(**batch, pixels=pixels)


def stored_as(dtype: torch.dtype, folders: dict[str, Path], tmp_path: Path) -> Path:
    """A SmolVLM whose weights are stored in this type."""
    folder = shutil.copytree(folders["smolvlm"], tmp_path / "stored")
    AutoModelForImageTextToText.from_pretrained(folder).to(dtype).save_pretrained(folder)
    return Path(folder)


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_pictures_are_normalised_as_the_model_s_own_processor_says(
    file: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """In the file of all its parts, as transformers 5 writes it, or in one of this part alone."""
    folder = shutil.copytree(folders["smolvlm"], tmp_path / "own")
    told = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / file).write_text(json.dumps({"image_processor": told} if file.startswith("processor") else told))
    base = reader_of(folder).settings.base
    assert (base.mean, base.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_a_model_that_does_not_say_how_pictures_are_normalised_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["smolvlm"], tmp_path / "mute")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match=r"mute: neither its .* set model\.base\.mean and model\.base\.std"):
        reader_of(folder)
    given = PretrainedBase(name=str(folder), dtype="fp32", mean=(0.5,) * 3, std=(0.25,) * 3)
    assert reader_of(folder, base=given).settings.base.std == (0.25,) * 3
    with pytest.raises(WeightsError, match="image_std"):
        reader_of(folder, base=given.model_copy(update={"std": None}))


def test_a_fresh_tower_is_drawn_from_its_seed(tiny_language: Path) -> None:
    language = LanguageSettings(name=str(tiny_language), lora=None)

    def drawn(seed: int) -> VolumeReader:
        base = FreshBase(language=language, size=16, patch=4, hidden=16, layers=3, heads=2, merge=2, seed=seed)
        return VolumeReader(ReaderConfig.of(ReaderSettings(base=base, pictures=PictureSettings(size=16), lora=LORA)))

    one, same, other = drawn(1), drawn(1), drawn(2)
    weight = "model.model.vision_model.embeddings.patch_embedding.weight"
    assert torch.equal(one.state_dict()[weight], same.state_dict()[weight])
    assert not torch.equal(one.state_dict()[weight], other.state_dict()[weight])
    words = one.language_model.get_input_embeddings().weight
    assert one.model.get_output_embeddings().weight.shape == words.shape


# ------------------------------------------------------------------------------------------------------------ the words


def template_of(marker: str, begin: str = "") -> str:
    return (
        begin + "{% for m in messages %}[{{ m.role }}]{% for c in m.content %}"
        "{% if c.type == 'image' %}" + marker + "\n{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}[say]"
    )


FAKE = "<fake_token_around_image>"


@pytest.mark.parametrize(
    ("family", "marker", "opened", "closed"),
    [
        ("llava", "<image>", "", ""),
        ("idefics3", "<image>", f"{FAKE}<global-img>", FAKE),
        ("smolvlm", "<image>", f"{FAKE}<global-img>", FAKE),
        ("internvl", "<IMG_CONTEXT>", "<img>", "</img>"),
        ("qwen2_5_vl", "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|>", "<|vision_end|>"),
        ("gemma3", "<start_of_image>", "\n\n<start_of_image>", "<end_of_image>\n\n"),
    ],
)
def test_a_chat_template_says_what_stands_around_the_picture(
    family: str, marker: str, opened: str, closed: str, tiny_language: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_language)
    tokenizer.chat_template = template_of(marker)
    assert chat_form(tokenizer, FAMILIES[family].words) == (f"[user]{opened}", f"{closed}\n", "[say]")


def test_bos_comes_first_where_the_tokenizer_begins_so(tiny_language: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_language)
    bos, words = tokenizer.bos_token, FAMILIES["llava"].words
    first = tokenizer.bos_token_id
    monkeypatch.setattr(type(tokenizer), "__call__", lambda self, text: {"input_ids": [first, 5]})
    tokenizer.chat_template = template_of("<image>")
    assert chat_form(tokenizer, words)[0] == f"{bos}[user]"
    tokenizer.chat_template = template_of("<image>", begin=bos)
    assert chat_form(tokenizer, words)[0] == f"{bos}[user]"


def test_without_a_template_for_pictures_the_plain_form_is_used(
    tiny_language: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_language)
    bos, eos = tokenizer.bos_token or "", tokenizer.eos_token
    for template in (None, "{% for m in messages %}{{ m.content + '' }}{% endfor %}"):
        tokenizer.chat_template = template
        assert chat_form(tokenizer, FAMILIES["smolvlm"].words) == (bos, "", eos)
        assert chat_form(tokenizer, FAMILIES["paligemma"].words) == ("", bos, "\n")
    assert not caplog.records
    tokenizer.chat_template = template_of("<picture>")
    assert chat_form(tokenizer, FAMILIES["smolvlm"].words) == (bos, "", eos)
    assert "writes no <image> for a picture" in caplog.text


def test_a_template_that_is_the_processor_s_alone_is_found(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["smolvlm"], tmp_path / "smolvlm")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template_of("<image>")}))
    processor = ReaderProcessor.of(reader_of(folder))
    assert processor.before == f"[user]{FAKE}<global-img>"
    assert processor.after == "[say]"


def test_an_empty_or_endless_question_is_refused(folders: dict[str, Path]) -> None:
    processor = ReaderProcessor.of(reader_of(folders["smolvlm"]))
    with pytest.raises(QuestionError, match="is empty"):
        processor([" "])
    with pytest.raises(QuestionError, match="at most 512"):
        processor(["where " * 600])
