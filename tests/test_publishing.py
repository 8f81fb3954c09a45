"""A published model answers as the trained one does, weighs half of it, and tells nothing of the machine."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from conftest import make_study
from voxmoe import publishing
from voxmoe.answering import Answerer
from voxmoe.default import SHIPPED
from voxmoe.errors import ResultsError, WeightsError
from voxmoe.evaluation import results
from voxmoe.evaluation.evaluate import evaluate
from voxmoe.files import write_json
from voxmoe.publishing import _kept, publish
from voxmoe.segmenting import Segmenter

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def published(seeing_model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    results.save(folder / "results.json", evaluate(seeing_model, dataset))
    publish(seeing_model, folder / "pocket", [folder / "results.json"])
    return folder / "pocket"


def test_it_answers_as_the_model_it_was_made_from(published: Path, seeing_model: Path) -> None:
    study = make_study()
    before, after = (
        Answerer.from_pretrained(place).ask(study, "How large is the Enhancing Tissue?", say=False)
        for place in (seeing_model, published)
    )
    for task, category in before.categories.items():
        assert after.categories[task].probability == pytest.approx(category.probability, abs=0.03)
    assert Segmenter.from_pretrained(published).encoder.settings.grid == (32, 32, 32)


def test_it_weighs_half(published: Path, seeing_model: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (seeing_model, published))
    assert before.keys() == after.keys()
    assert {tensor.dtype for tensor in after.values() if tensor.is_floating_point()} == {torch.bfloat16}
    torch.testing.assert_close({n: t.float() for n, t in after.items()}, before, atol=1e-2, rtol=1e-2)


def test_nothing_leads_back_to_the_machine(published: Path, seeing_model: Path, tiny_language: Path) -> None:
    """But for the language model of the tests, which is a folder."""
    assert (seeing_model / "manifest.json").read_text().count("/") > 4
    for path in published.rglob("*"):
        if path.suffix in (".json", ".yaml", ".md", ".jsonl"):
            text = path.read_text().replace(str(tiny_language), "")
            assert str(seeing_model.parent.parent) not in text, path.name
            assert str(Path.home()) not in text, path.name


def test_the_record_of_its_eye_comes_with_it(published: Path, tiny_eye: Path) -> None:
    kept = published / "eye"
    assert json.loads((kept / "manifest.json").read_text()) == json.loads((tiny_eye / "manifest.json").read_text())
    assert (kept / "training.jsonl").read_bytes() == (tiny_eye / "training.jsonl").read_bytes()
    assert yaml.safe_load((kept / "recipe.yaml").read_text())["out"] == tiny_eye.name
    assert not (published / "start").exists()


def test_so_does_that_of_an_eye_that_was_published_with_another_model(
    published: Path, seeing_model: Path, tiny_eye: Path, tmp_path: Path
) -> None:
    again = shutil.copytree(seeing_model, tmp_path / "again")
    recipe = yaml.safe_load((again / "recipe.yaml").read_text())
    recipe["model"]["vision"]["weights"] = str(published)
    (again / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    publish(again, tmp_path / "out")
    told = json.loads((tmp_path / "out/eye/manifest.json").read_text())
    assert told == json.loads((tiny_eye / "manifest.json").read_text())


def test_the_card_tells_what_it_learnt_from_and_how_it_does(published: Path) -> None:
    card = (published / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "voxmoe"
    for words in (
        "not a medical device",
        "Resection Cavity (RC)",
        "Parameters that were trained",
        "majority class of the label",
        "segment, then measure",
        "Not covered: diagnosis",
    ):
        assert words in card, words
    manifest = json.loads((published / "manifest.json").read_text())
    assert f"{manifest['trained_parameters']:,}" in card


@pytest.mark.parametrize(
    ("layers", "told"),
    [(None, ""), (12, ", its first 12 layers"), ([0, 1, 29], ", its layers 0, 1, 29 (counted from 0)")],
)
def test_the_card_says_which_layers_are_kept(layers: int | list[int] | None, told: str) -> None:
    assert _kept(layers) == told


def test_what_cannot_be_published_is_refused(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no finished model"):
        publish(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(ResultsError, match="holds no results"):
        publish(tiny_model, tmp_path / "out", [dataset / "manifest.json"])
    assert not (tmp_path / "out").exists()


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_of_ct_is_refused(tiny_reader: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_reader, tmp_path / "model")
    write_json(model / "manifest.json", {})
    with pytest.raises(WeightsError, match="a model of CT, and only models of brain MRI can be published"):
        publish(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_is_not_published_over_itself_or_over_what_is_no_publication(
    tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    other = shutil.copytree(tiny_model, tmp_path / "other")
    page = tmp_path / "page"
    page.mkdir()
    (page / "README.md").write_text("# Mine\n")
    before = content(tmp_path)
    with pytest.raises(WeightsError, match="is the model itself"):
        publish(model, tmp_path / "page" / ".." / "model")
    for place in (other, page):
        with pytest.raises(WeightsError, match="holds other files than voxmoe publish writes"):
            publish(model, place)
    with pytest.raises(WeightsError, match=r"README\.md: is a file; name a folder"):
        publish(model, page / "README.md")
    assert content(tmp_path) == before


def test_published_again_nothing_stays_but_what_others_put_there(
    published: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(published, tmp_path / "out")
    assert {"results-1.json", "eye/manifest.json"} <= content(out).keys()
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").write_text("ref")
    told = publish(tiny_model, out)
    publish(tiny_model, tmp_path / "fresh")
    again = content(out)
    assert again.pop(".git/HEAD") == b"ref"
    assert again == content(tmp_path / "fresh")
    assert told["files"] == {name: len(found) for name, found in again.items()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "out"]


def test_an_interrupted_publication_leaves_the_one_before(
    published: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    out = shutil.copytree(published, tmp_path / "out")
    monkeypatch.setattr(publishing, "save", interrupted)
    for place in (out, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            publish(tiny_model, place)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert content(out) == content(published)


def test_the_shipped_model_is_a_publication() -> None:
    assert publishing._is_publication(SHIPPED)


def test_what_is_said_about_data_and_limits_stands_in_the_card(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "about.md").write_text("## Data and limits\n\nIt learnt from phantoms alone.\n")
    publish(tiny_model, tmp_path / "out", about=tmp_path / "about.md")
    assert "```\n\n## Data and limits\n\nIt learnt from phantoms alone." in (tmp_path / "out/README.md").read_text()
    (tmp_path / "about.md").write_bytes(b"\xff\xfe")
    with pytest.raises(ResultsError, match=r"about\.md: no text to put into the card"):
        publish(tiny_model, tmp_path / "other", about=tmp_path / "about.md")
    assert not (tmp_path / "other").exists()


def test_publish_lists_what_it_wrote(voxmoe: Run, tiny_model: Path, tmp_path: Path) -> None:
    code, out, _ = voxmoe("publish", tiny_model, tmp_path / "out")
    assert code == 0
    for name in ("model.safetensors", "README.md", "manifest.json"):
        assert name in out


def test_a_model_whose_weights_are_cut_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        publish(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
