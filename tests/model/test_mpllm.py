"""mpLLM as a whole: shapes, saving and loading, generation, padding, missing modalities, losses."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoProcessor

from conftest import make_study
from voxmoe.errors import QuestionError, WeightsError
from voxmoe.model.experts import ExpertSettings
from voxmoe.model.language import LanguageSettings, load_tokenizer
from voxmoe.model.mpllm import ModelSettings, MpLLM, MpLLMConfig
from voxmoe.model.processing import MpLLMProcessor
from voxmoe.model.vision import VisionEncoder, VisionSettings
from voxmoe.model.weights import digest
from voxmoe.segmenting import Segmenter
from voxmoe.vocabulary import TGH_MOE, Kind, Modality, Task
from voxmoe.vqa.encoding import encode

GRID = (4, 8, 8)
VISION = VisionSettings(grid=GRID, patch=(1, 2, 2), pool=(2, 2, 2), hidden=16, layers=2, heads=2, mlp=32)
EXPERTS = ExpertSettings(modality_level=2, token_level=2, router_hidden=8)
QUESTIONS = ["How large is ET?", "Where is the edema located and what shape has it?"]


@pytest.fixture(scope="module")
def settings(tiny_language: Path) -> ModelSettings:
    return ModelSettings(
        vision=VISION, connector=EXPERTS, language=LanguageSettings(name=str(tiny_language)), profiles=("gli-2024",)
    )


@pytest.fixture(scope="module")
def model(settings: ModelSettings) -> MpLLM:
    torch.manual_seed(0)
    model = MpLLM(MpLLMConfig.of(settings)).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture(scope="module")
def processor(settings: ModelSettings) -> MpLLMProcessor:
    return MpLLMProcessor(load_tokenizer(settings.language), grid=GRID)


def targets(count: int) -> dict[str, torch.Tensor]:
    encoded = encode(Kind.IN_SCOPE, {Task.VOLUME: ["<1%"], Task.REGION: ["frontal", "insula"]})
    return {name: torch.tensor([value] * count) for name, value in encoded.items()}


def test_adapters_start_at_zero(settings: ModelSettings) -> None:
    """The language model is the pretrained one until something is learnt."""
    fresh = MpLLM(MpLLMConfig.of(settings))
    ups = [parameter for name, parameter in fresh.named_parameters() if ".lora_B." in name]
    assert ups
    assert not any(up.any() for up in ups)


def test_saved_and_loaded_gives_identical_logits(model: MpLLM, processor: MpLLMProcessor, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, loaded_processor = AutoModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, MpLLM)
    batch = loaded_processor(QUESTIONS, [make_study(seed=1), make_study(seed=2)], ["<1%", "frontal"])
    with torch.no_grad():
        expected, found = (
            model(**processor(QUESTIONS, [make_study(seed=1), make_study(seed=2)], ["<1%", "frontal"])),
            loaded(**batch),
        )
    assert torch.equal(expected.logits, found.logits)
    assert all(torch.equal(expected.heads[name], found.heads[name]) for name in expected.heads)
    assert torch.equal(expected.expert_weights, found.expert_weights)


def test_checkpoint_leaves_the_language_model_out_and_is_strict(model: MpLLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert not [name for name in state if name.startswith("language_model.") and ".lora_" not in name]
    dropped = {name: tensor for name, tensor in state.items() if name != "connector.router.layers.0.weight"}
    save_file({**dropped, "connector.router.extra": torch.zeros(1)}, tmp_path / "model.safetensors")
    pattern = r"missing \['connector\.router\.layers\.0\.weight'\]; unexpected \['connector\.router\.extra'\]"
    with pytest.raises(WeightsError, match=pattern):
        MpLLM.from_pretrained(tmp_path)


def test_an_encoder_starts_from_published_weights_which_a_saved_model_no_longer_needs(
    settings: ModelSettings, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    published = VisionEncoder(VISION).state_dict()
    file = tmp_path / "vit.safetensors"
    save_file(published, file)
    vision = VISION.model_copy(update={"weights": str(file)})
    started = MpLLM(MpLLMConfig.of(settings.model_copy(update={"vision": vision})))
    assert all(torch.equal(tensor, published[name]) for name, tensor in started.vision.state_dict().items())
    started.save_pretrained(tmp_path / "model")
    file.unlink()
    loaded = MpLLM.from_pretrained(tmp_path / "model")
    assert loaded.settings.vision == started.settings.vision
    assert loaded.settings.vision.fingerprint == digest(published)
    assert all(torch.equal(tensor, published[name]) for name, tensor in loaded.vision.state_dict().items())


def test_a_start_does_not_replace_weights_that_are_named(settings: ModelSettings, tmp_path: Path) -> None:
    for number in (1, 2):
        torch.manual_seed(number)
        save_file(VisionEncoder(VISION).state_dict(), tmp_path / f"{number}.safetensors")

    def seeing(number: int | None) -> ModelSettings:
        weights = None if number is None else str(tmp_path / f"{number}.safetensors")
        return settings.model_copy(update={"vision": VISION.model_copy(update={"weights": weights})})

    first = MpLLM(MpLLMConfig.of(seeing(1)))
    first.save_pretrained(tmp_path / "first")
    assert MpLLM(MpLLMConfig.of(seeing(1))).start_from(tmp_path / "first") == []
    going_on = MpLLM(MpLLMConfig.of(seeing(None)))
    going_on.start_from(tmp_path / "first")
    assert digest(going_on.vision.state_dict()) == digest(first.vision.state_dict())
    with pytest.raises(WeightsError, match=r"its vision \(.*\) is not that of model\.vision\.weights=.*2\.safetensors"):
        MpLLM(MpLLMConfig.of(seeing(2))).start_from(tmp_path / "first")


def test_a_sequence_has_to_fit_the_language_model(settings: ModelSettings, processor: MpLLMProcessor) -> None:
    model = MpLLM(MpLLMConfig.of(settings)).eval()
    batch = processor(QUESTIONS[:1], [make_study()])
    words, images = batch["question_ids"].shape[1], VISION.tokens
    model.language_model.config.max_position_embeddings = 1 + images + words
    model(**batch)
    model.language_model.config.max_position_embeddings -= 1
    with pytest.raises(WeightsError, match=rf"a sequence of {1 + images + words} tokens.*{images + words} positions"):
        model(**batch)


def test_other_language_weights_are_refused(model: MpLLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    config = MpLLMConfig.from_pretrained(tmp_path)
    config.settings["language"]["fingerprint"] = "0" * 16
    with pytest.raises(WeightsError, match="not those that the model was trained on"):
        MpLLM.from_pretrained(tmp_path, config=config)


def test_a_model_of_the_other_system_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": TGH_MOE}))
    with pytest.raises(WeightsError, match=r"a model that reads CT \(.*\), and one that reads brain MRI .* is needed"):
        MpLLM.from_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"a model that reads CT .* is needed"):
        Segmenter.from_pretrained(tmp_path)


def test_padding_changes_nothing(model: MpLLM, processor: MpLLMProcessor) -> None:
    studies = [make_study(seed=1), make_study(seed=2)]
    with torch.no_grad():
        together = model(**processor(QUESTIONS, studies, ["<1%", "in the frontal lobe"]))
        for row in range(2):
            alone = model(**processor([QUESTIONS[row]], [studies[row]], [["<1%", "in the frontal lobe"][row]]))
            for name, logits in alone.heads.items():
                torch.testing.assert_close(together.heads[name][row], logits[0], atol=1e-5, rtol=1e-4)
            length = alone.logits.shape[1]
            torch.testing.assert_close(together.logits[row, :length], alone.logits[0], atol=1e-5, rtol=1e-4)


def test_features_computed_before_give_what_images_give(model: MpLLM, processor: MpLLMProcessor) -> None:
    batch = processor(QUESTIONS, [make_study(seed=1), make_study(seed=2, modalities=(Modality.T2,))])
    with torch.no_grad():
        features = model.encode_images(batch["images"], batch["present"])
        cached = model(
            batch["question_ids"],
            batch["question_mask"],
            tokens=features.tokens,
            cls=features.cls,
            present=features.present,
        )
        torch.testing.assert_close(cached.logits, model(**batch).logits)


def test_a_missing_modality_is_not_looked_at(model: MpLLM, processor: MpLLMProcessor) -> None:
    batch = processor(QUESTIONS[:1], [make_study(seed=1)])
    batch["present"][0, 1] = False
    other = {**batch, "images": batch["images"].clone()}
    other["images"][0, 1] = 0.7
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, model(**other).logits)


def test_generate_follows_the_logits(model: MpLLM, processor: MpLLMProcessor) -> None:
    batch = processor(QUESTIONS, [make_study(seed=1), make_study(seed=2)])
    ids = model.generate(**batch, max_new_tokens=4)
    with torch.no_grad():
        first = model(**batch).logits[:, -1].argmax(dim=-1)
        answered = model(**batch, answer_ids=ids, answer_mask=torch.ones_like(ids))
    assert torch.equal(ids[:, 0], first)
    assert torch.equal(ids, answered.logits.argmax(dim=-1))
    assert len(processor.decode_answers(ids)) == 2


def test_loss_is_equation_2_and_trains_what_it_should(model: MpLLM, processor: MpLLMProcessor) -> None:
    batch = processor(QUESTIONS, [make_study(seed=1), make_study(seed=2)], ["<1%", "frontal"])
    output = model(**batch, targets=targets(2))
    assert set(output.losses) == {"text", "volume", "region", "shape", "spread", "out_of_scope"}
    torch.testing.assert_close(output.loss, torch.stack(list(output.losses.values())).sum())
    model.zero_grad()
    output.loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    expected = {
        name for name, _ in model.named_parameters() if not name.startswith("language_model.") or ".lora_" in name
    }
    assert trained == expected
    model.zero_grad()


def test_without_a_text_loss_the_answer_is_not_read(
    model: MpLLM, processor: MpLLMProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = processor(QUESTIONS, [make_study(seed=1), make_study(seed=2)], ["<1%", "frontal"])
    with torch.no_grad():
        whole = model(**batch, targets=targets(2))
        settings = model.settings.model_copy(update={"loss": model.settings.loss.model_copy(update={"text": 0.0})})
        monkeypatch.setattr(model, "settings", settings)
        output = model(**batch, targets=targets(2))
    assert set(output.losses) == set(whole.losses) - {"text"}
    torch.testing.assert_close(output.loss, whole.loss - whole.losses["text"])


def test_each_term_of_the_loss_counts_by_its_weight(
    model: MpLLM, processor: MpLLMProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors = {"text": 0.5, "volume": 2.0, "region": 3.0, "shape": 0.0, "spread": 0.25, "out_of_scope": 4.0}
    settings = model.settings.model_copy(update={"loss": model.settings.loss.model_copy(update=factors)})
    monkeypatch.setattr(model, "settings", settings)
    studies = [make_study(seed=number) for number in (1, 2)]
    with torch.no_grad():
        output = model(**processor(QUESTIONS, studies, ["It is small.", "It is round."]), targets=targets(2))
    torch.testing.assert_close(output.loss, sum(factors[name] * term for name, term in output.losses.items()))
    assert output.losses["shape"] > 0, "the term is told, and does not count"


def test_loss_of_a_batch_is_the_mean_of_its_samples(model: MpLLM, processor: MpLLMProcessor) -> None:
    studies, answers = [make_study(seed=1), make_study(seed=2)], ["<1%", "in the frontal lobe"]
    with torch.no_grad():
        together = model(**processor(QUESTIONS, studies, answers), targets=targets(2)).loss
        alone = [
            model(**processor([question], [study], [answer]), targets=targets(1)).loss
            for question, study, answer in zip(QUESTIONS, studies, answers, strict=True)
        ]
    torch.testing.assert_close(together, torch.stack(alone).mean(), atol=1e-5, rtol=1e-5)


def test_the_text_loss_is_that_of_the_logits_without_padding(model: MpLLM, processor: MpLLMProcessor) -> None:
    batch = processor(QUESTIONS, [make_study(seed=1), make_study(seed=2)], ["<1%", "in the frontal lobe"])
    with torch.no_grad():
        output = model(**batch, targets=targets(2))
        logits = model(**batch).logits
    assert output.logits is None
    lengths = batch["answer_mask"].sum(dim=1).tolist()
    assert len(set(lengths)) == 2
    rows = [
        torch.nn.functional.cross_entropy(logits[row, :length], batch["answer_ids"][row, :length])
        for row, length in enumerate(lengths)
    ]
    torch.testing.assert_close(output.losses["text"], torch.stack(rows).mean())


def test_logits_are_computed_for_labels_alone(model: MpLLM, processor: MpLLMProcessor) -> None:
    batch = processor(QUESTIONS, [make_study(seed=1), make_study(seed=2)], ["<1%", "in the frontal lobe"])
    read: list[torch.Size] = []
    hook = model.language_model.get_output_embeddings().register_forward_hook(
        lambda module, given, logits: read.append(logits.shape)
    )
    try:
        with torch.no_grad():
            model(**batch, targets=targets(2))
    finally:
        hook.remove()
    ((rows, words),) = read
    assert rows == batch["answer_mask"].sum()
    assert words == model.language_model.config.vocab_size


def test_the_prompt_moves_the_experts(model: MpLLM, processor: MpLLMProcessor) -> None:
    with torch.no_grad():
        weights = model(**processor(QUESTIONS, [make_study(seed=1)] * 2)).expert_weights
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    assert not torch.allclose(weights[0], weights[1])


@pytest.mark.parametrize("prompt", ["weights", "gates", "nowhere"])
def test_a_study_that_was_looked_at_once_is_answered_as_from_its_voxels(
    settings: ModelSettings, processor: MpLLMProcessor, prompt: str
) -> None:
    torch.manual_seed(1)
    connector = EXPERTS.model_copy(update={"prompt": prompt})
    asked = MpLLM(MpLLMConfig.of(settings.model_copy(update={"connector": connector}))).eval()
    studies = [make_study(seed=1), make_study(seed=2, modalities=(Modality.T2,))]
    with torch.no_grad():
        seen = asked.look(asked.encode_images(**processor.see(studies)))
    assert ("projected" in seen) == (prompt != "gates")
    for questions in (QUESTIONS, QUESTIONS[::-1]):
        with torch.no_grad():
            expected, found = asked(**processor(questions, studies)), asked(**processor(questions), **seen)
        torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
        assert torch.equal(found.expert_weights, expected.expert_weights)


@pytest.mark.parametrize("prompt", ["weights", "gates", "nowhere"])
def test_questions_that_were_heard_once_are_answered_as_from_their_words(
    settings: ModelSettings, processor: MpLLMProcessor, prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    connector = EXPERTS.model_copy(update={"prompt": prompt})
    asked = MpLLM(MpLLMConfig.of(settings.model_copy(update={"connector": connector}))).eval()
    texts = processor(QUESTIONS)
    heard = asked.listen(**texts)
    assert ("prompt" in heard) == (prompt != "nowhere")
    for seeds in ((1, 2), (3, 4)):
        batch = texts | processor.see([make_study(seed=seed) for seed in seeds])
        with torch.no_grad():
            expected, written = asked(**batch), asked.generate(**batch, max_new_tokens=3)
            with monkeypatch.context() as patch:
                patch.setattr(asked, "_prompt_hidden", None)
                found = asked(**batch, **heard)
                assert torch.equal(asked.generate(**batch, **heard, max_new_tokens=3), written)
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.expert_weights, expected.expert_weights)


def test_the_heads_alone_say_the_same(model: MpLLM, processor: MpLLMProcessor) -> None:
    batch = processor(QUESTIONS, [make_study(seed=1), make_study(seed=2)])
    with torch.no_grad():
        whole, heads = model(**batch), model(**batch, heads_alone=True)
    assert heads.logits is None
    assert all(torch.equal(whole.heads[name], heads.heads[name]) for name in whole.heads)


def test_text_only_needs_no_images(settings: ModelSettings, processor: MpLLMProcessor, tmp_path: Path) -> None:
    blind = MpLLM(MpLLMConfig.of(settings.model_copy(update={"vision": None}))).eval()
    blind.save_pretrained(tmp_path)
    batch = processor(QUESTIONS)
    with torch.no_grad():
        assert torch.equal(blind(**batch).logits, MpLLM.from_pretrained(tmp_path)(**batch).logits)
    assert blind(**batch).expert_weights is None


@pytest.mark.parametrize("question", ["", "   ", "why " * 300])
def test_unaskable_questions_are_refused(processor: MpLLMProcessor, question: str) -> None:
    with pytest.raises(QuestionError):
        processor([question])


def test_a_model_of_another_version_is_refused_by_what_differs() -> None:
    with pytest.raises(WeightsError, match=r"profile: Extra inputs are not permitted.*train it again"):
        MpLLMConfig(settings={"profile": "gli-2024"})


@pytest.mark.parametrize(
    "damaged", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", None], ids=["pointer", "cut"]
)
def test_weights_that_are_not_whole_are_named(damaged: bytes | None, model: MpLLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100] if damaged is None else damaged)
    for use in (MpLLM.from_pretrained, model.start_from):
        with pytest.raises(WeightsError, match=r"model\.safetensors: not a whole safetensors file"):
            use(tmp_path)


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_processor_is_loaded_whole_or_not_at_all(name: str, processor: MpLLMProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:30])
    with pytest.raises(WeightsError, match=rf"{tmp_path}: one of .*{name}.* cannot be read"):
        MpLLMProcessor.from_pretrained(tmp_path)
    file.unlink()
    with pytest.raises(WeightsError, match=rf"{tmp_path}: holds no {name}; copy all"):
        MpLLMProcessor.from_pretrained(tmp_path)
