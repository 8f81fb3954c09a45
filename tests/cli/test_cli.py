"""The command line as a user meets it: results, errors that help, exit codes, instant help."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from voxmoe import default
from voxmoe.imaging.volume import Volume, read_image, read_mask, write_volume

Run = Callable[..., tuple[int, str, str]]


def fails(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    assert code == 2
    assert not out
    *progress, error = err.splitlines()
    assert error.startswith("error: ")
    assert not [line for line in progress if "Traceback" in line]
    for word in words:
        assert word in error


def image(path: Path, shape: tuple[int, ...] = (12, 12, 12), value: float = 100, shift: float = 0) -> Path:
    data = np.full(shape, value, np.float32)
    affine = np.eye(4)
    affine[0, 3] = shift
    write_volume(Volume(data, affine), path)
    return path


_LIGHT = """
import sys
from voxmoe.cli.main import run
try:
    run()
except SystemExit:
    pass
heavy = {"torch", "transformers", "scipy", "skimage"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_names_all_that_can_be_named(voxmoe: Run) -> None:
    from voxmoe.reproduction.run import NAMES
    from voxmoe.vqa.ct.formats import FORMATS

    for command, names in (("collect", FORMATS), ("reproduce", NAMES)):
        words = set(re.findall(r"[\w-]+", voxmoe(command, "--help")[1]))
        assert not set(names) - words, command
    assert "SPLIT=TABLE" in voxmoe("collect", "--help")[1]


def test_help_and_info_import_nothing_heavy() -> None:
    for arguments in (["--help"], ["info", "--json"], ["ask", "--help"]):
        command = [sys.executable, "-c", _LIGHT, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_info_tells_labels_by_profile(voxmoe: Run) -> None:
    code, out, _ = voxmoe("info", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["profiles"]["gli-2024"]["labels"]["RC"] == {"value": 4, "name": "Resection Cavity"}
    assert told["profiles"]["brats-2021"]["labels"]["ET"]["value"] == 4
    assert told["tasks"]["spread"][2:] == [
        "single lesion",
        "core with satellite lesions",
        "scattered lesions",
    ]
    assert voxmoe("info")[0] == 0


def test_findings_of_a_study(voxmoe: Run, cohort: Path) -> None:
    study = cohort / "BraTS-GLI-00001-100"
    code, out, _ = voxmoe("findings", study, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["protocol"] == "paper-v2"
    assert found["profile"] == "gli-2024"
    assert list(found["labels"]) == ["NETC", "SNFH", "ET", "RC"]
    assert any(label["present"] for label in found["labels"].values())
    assert voxmoe("findings", study)[0] == 0


def test_findings_of_a_cohort_as_a_table(voxmoe: Run, cohort: Path, tmp_path: Path) -> None:
    folder, table = tmp_path / "cohort", tmp_path / "found.csv"
    studies = sorted(path for path in cohort.iterdir() if path.is_dir())[:2]
    for study in studies:
        shutil.copytree(study, folder / study.name)
    mask = next((folder / studies[1].name).glob("*-seg.nii.gz"))
    mask.write_bytes(mask.read_bytes()[:1000])
    code, out, _ = voxmoe("findings", folder, "--table", table, "--jobs", "1", "--json")
    report = json.loads(out)
    assert (code, report["studies"], report["rows"], list(report["skipped"])) == (1, 1, 4, [str(mask)])
    assert mask.name in report["skipped"][str(mask)]
    truth = json.loads(voxmoe("findings", studies[0], "--json")[1])["labels"]
    header, *rows = (line.split(",") for line in table.read_text().replace('"', "").splitlines())
    place = header.index("volume_mm3")
    assert [float(row[place]) for row in rows] == [label["volume_mm3"] for label in truth.values()]

    before = table.read_bytes()
    fails(voxmoe("findings", folder / studies[1].name, "--table", table, "--jobs", "1"), "none of 1 masks", mask.name)
    fails(voxmoe("findings", folder, "--table", tmp_path / "found.txt"), "found.txt", ".csv or .parquet")
    fails(voxmoe("findings", folder, "--table", table, "--t1", mask), "--t1", "leave it out")
    fails(voxmoe("findings", tmp_path / "cohort" / "nowhere", "--table", table), "nowhere", "no such folder")
    assert table.read_bytes() == before


def test_a_study_on_a_cut_grid_lies_in_the_space_that_is_named(voxmoe: Run, cohort: Path, tmp_path: Path) -> None:
    study = sorted(path for path in cohort.iterdir() if path.is_dir())[0]
    folder = tmp_path / "cohort" / study.name
    for file in study.glob("*.nii.gz"):
        volume = (read_mask if "seg" in file.name else read_image)(file)
        box = tuple(slice(2, size - 2) for size in volume.shape)
        write_volume(volume.crop(box), folder / file.name)
    built = ("build", tmp_path / "cohort", tmp_path / "dataset", "--jobs", "1", "--json")
    fails(voxmoe(*built), "none of 1 studies can be used", "name its space")
    fails(voxmoe("report", folder, "--mask", "--space", "talairach"), "no space is called 'talairach'")
    whole = json.loads(voxmoe("findings", study, "--json")[1])
    assert voxmoe(*built, "--space", whole["atlas"]["space"])[0] == 0
    known = json.loads((tmp_path / "dataset" / "meta" / "studies.json").read_text())[0]["findings"]
    assert known["atlas"] == whole["atlas"]
    assert {key: label["regions"] for key, label in known["labels"].items()} == {
        key: label["regions"] for key, label in whole["labels"].items()
    }


def test_the_version(voxmoe: Run) -> None:
    from voxmoe import __version__

    assert voxmoe("--version") == (0, f"voxmoe {__version__}\n", "")


def test_findings_of_a_mask_alone_say_what_is_missing(voxmoe: Run, cohort: Path) -> None:
    mask = cohort / "BraTS-GLI-00001-100" / "BraTS-GLI-00001-100-seg.nii.gz"
    code, out, _ = voxmoe("findings", mask, "--profile", "gli-2024", "--protocol", "code-v3", "--json")
    assert code == 0
    label = next(label for label in json.loads(out)["labels"].values() if label["present"])
    assert label["volume"] == {"fraction": None, "percent": None, "category": None}
    assert "T1" in label["reasons"]["volume"]
    assert label["regions"] is not None
    assert label["shape"]["sphericity"] > 0


def test_train_evaluate_and_ask(
    voxmoe: Run, tiny_model: Path, tiny_recipe: Path, dataset: Path, cohort: Path, tmp_path: Path
) -> None:
    code, _, err = voxmoe("train", tiny_recipe, "--default")
    assert code == 0
    assert "already trained" in err
    code, out, _ = voxmoe("evaluate", tiny_model, dataset, "--out", tmp_path / "results.json")
    assert code == 0
    assert "majority class" in out
    assert json.loads((tmp_path / "results.json").read_text())["questions"] == 24
    study = cohort / "BraTS-GLI-00001-100"
    code, out, _ = voxmoe("ask", study, "How large is the edema?", "--without", "flair", "--json")
    assert code == 0
    assert json.loads(out)["modalities"] == ["T1", "T1Gd", "T2"]
    code, out, _ = voxmoe("ask", study, "How large is the edema?", "Where is it?")
    assert code == 0
    assert out.count("Q  ") == 2
    t2 = study / "BraTS-GLI-00001-100-t2w.nii.gz"
    code, out, _ = voxmoe("ask", "--t2", t2, "How large is the edema?", "--json")
    assert code == 0
    assert json.loads(out)["modalities"] == ["T2"]
    code, out, _ = voxmoe("ask", study, "Is it on the [/left] side, as [red] says?")
    assert code == 0
    assert "Q  Is it on the [/left] side, as [red] says?" in out
    fails(voxmoe("ask", study, "--t2", t2, "How large is the edema?"), f"{study}: a study or CT was named beside files")
    fails(voxmoe("ask", "--t2", t2, "why " * 600), "tokens", "at most 512")
    fails(voxmoe("evaluate", tiny_model, dataset, "--out", tmp_path), f"{tmp_path}: is a folder; name a file to write")
    fails(voxmoe("ask", study, ""), "empty")
    fails(voxmoe("ask", study, "why " * 600), "tokens", "at most 512")
    fails(voxmoe("ask", study), "no question")


def test_evidence_about_an_own_scan_needs_no_release(
    voxmoe: Run, seeing_model: Path, cohort: Path, tmp_path: Path
) -> None:
    scan = tmp_path / "mine_t1.nii.gz"
    shutil.copy(cohort / "BraTS-GLI-00001-100" / "BraTS-GLI-00001-100-t1n.nii.gz", scan)
    asked = ("ask", "--t1", scan, "How large is the edema?", "--model", seeing_model, "--evidence", "--json")
    code, out, _ = voxmoe(*asked)
    assert code == 0
    assert json.loads(out)["evidence"]["profile"] == "gli-2024"
    fails(voxmoe(*asked, "--mask", scan), "mine", "--profile")


def test_a_broken_study_is_left_out_and_the_exit_code_says_so(voxmoe: Run, cohort: Path, tmp_path: Path) -> None:
    for study in sorted(cohort.iterdir())[:2]:
        (tmp_path / "cohort" / study.name).mkdir(parents=True)
        for file in study.iterdir():
            (tmp_path / "cohort" / study.name / file.name).symlink_to(file)
    broken = next((tmp_path / "cohort" / "BraTS-GLI-00000-100").glob("*-t2w.nii.gz"))
    content = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(content[: len(content) // 2])
    code, out, _ = voxmoe("build", tmp_path / "cohort", tmp_path / "out", "--jobs", "1")
    assert code == 1
    assert "BraTS-GLI-00000-100" in out
    assert "truncated" in out
    strict = voxmoe("build", tmp_path / "cohort", tmp_path / "strict", "--jobs", "1", "--strict")
    fails(strict, "study BraTS-GLI-00000-100 cannot be used", "truncated")
    fails(
        voxmoe("build", tmp_path / "cohort", tmp_path / "there", "--cluster", "nowhere"), "no Dask scheduler", "tcp://"
    )


def test_progress_tells_the_rate_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from voxmoe.cli import show

    now = iter([100.0, 100.0, 110.0])
    monkeypatch.setattr(show, "monotonic", lambda: next(now))
    monkeypatch.setattr(show, "err", show.Console(stderr=True, width=100))
    with show.Progress() as progress:
        for done in (40, 60):  # 40 were kept from an earlier run
            progress.report("measuring studies", done, 100)
    assert capsys.readouterr().err.splitlines() == [
        "measuring studies: 40/100",
        "measuring studies: 60/100, 2.0/s, 0:00:20 left",
    ]


def test_bad_input_gives_one_clear_error(voxmoe: Run, tmp_path: Path) -> None:
    question = "How large is the edema?"
    good = image(tmp_path / "good_t1.nii.gz")
    fails(voxmoe("ask", tmp_path / "nowhere", question), "nowhere", "no such folder")
    fails(voxmoe("ask", question), "no study is named beside the question", "voxmoe ask STUDY")
    fails(voxmoe("ask", tmp_path), "no question was given")
    fails(voxmoe("ask", "--t1", tmp_path / "none.nii.gz", question), "none.nii.gz", "no such file")
    text = tmp_path / "text_t1.nii.gz"
    text.write_text("hello")
    fails(voxmoe("ask", "--t1", text, question), "text_t1.nii.gz", "not a NIfTI file")
    cut = tmp_path / "cut_t1.nii.gz"
    cut.write_bytes(good.read_bytes()[:-20])
    fails(voxmoe("ask", "--t1", cut, question), "cut_t1.nii.gz", "truncated")
    fails(voxmoe("ask", "--t1", image(tmp_path / "nan_t1.nii", value=np.nan), question), "nan_t1.nii", "NaN")
    fails(voxmoe("ask", "--t1", image(tmp_path / "zero_t1.nii", value=0), question), "zero_t1.nii", "empty")
    moved = image(tmp_path / "moved_t2.nii", shift=5)
    fails(voxmoe("ask", "--t1", good, "--t2", moved, question), "moved_t2.nii", "another grid")
    (tmp_path / "empty").mkdir()
    fails(voxmoe("ask", tmp_path / "empty", question), "no study found", "seg.nii.gz")
    fails(voxmoe("build", tmp_path / "empty", tmp_path / "out"), "no study found")
    fails(voxmoe("findings", good, "--profile", "gli-1999"), "gli-1999", "gli-2024")
    mask = image(tmp_path / "BraTS2021_00000_seg.nii.gz", value=3)
    fails(voxmoe("findings", mask), "label value 3", "4 ET", "--profile")
    fails(voxmoe("findings", image(tmp_path / "own_seg.nii.gz", value=1)), "own", "--profile")


def test_no_default_model_is_explained(voxmoe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path))
    monkeypatch.setattr(default, "SHIPPED", tmp_path / "pocket")
    fails(voxmoe("ask", "--t1", image(tmp_path / "a_t1.nii"), "How large is it?"), "--model", "--default")


def test_the_package_is_the_command() -> None:
    def told(*program: str) -> tuple[int, str, str]:
        command = [sys.executable, *program, "findings", "nowhere.nii.gz"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    by_module = told("-m", "voxmoe")
    fails(by_module, "nowhere.nii.gz")
    assert by_module == told("-c", "from voxmoe.cli.main import run; run()")


def test_weights_are_converted_and_other_pickles_refused(voxmoe: Run, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    source, target = tmp_path / "vit.bin", tmp_path / "vit.safetensors"
    torch.save({"cls_token": torch.arange(6.0)}, source)
    code, out, _ = voxmoe("weights", source, target, "--json")
    assert (code, json.loads(out)) == (0, {"out": str(target), "tensors": 1, "parameters": 6})
    assert torch.equal(load_file(target)["cls_token"], torch.arange(6.0))
    assert voxmoe("weights", source, target)[0] == 0
    fails(voxmoe("weights", source, tmp_path / "vit.pt"), "ends in .safetensors")


def test_segment_writes_a_mask_on_the_studys_own_grid(
    voxmoe: Run, cohort: Path, tiny_eye: Path, tmp_path: Path
) -> None:
    study, out = cohort / "BraTS-GLI-00001-100", tmp_path / "predicted.nii.gz"
    code, printed, _ = voxmoe("segment", study, out, "--model", tiny_eye, "--without", "T2", "--json")
    assert code == 0
    told = json.loads(printed)
    assert (told["out"], told["profile"]) == (str(out), "gli-2024")
    assert list(told["labels"]) == ["NETC", "SNFH", "ET", "RC"]
    mask = read_mask(out)
    assert mask.same_grid(read_mask(study / "BraTS-GLI-00001-100-seg.nii.gz"))
    assert mask.data.any()
    voxels = [int((mask.data == label["value"]).sum()) for label in told["labels"].values()]
    assert voxels == [label["voxels"] for label in told["labels"].values()]
    assert voxmoe("segment", study, out, "--model", tiny_eye)[0] == 0


def test_segment_says_what_it_needs(voxmoe: Run, cohort: Path, tiny_eye: Path, tmp_path: Path) -> None:
    study = cohort / "BraTS-GLI-00001-100"
    fails(voxmoe("segment", study), "name the mask to write")
    fails(voxmoe("segment", study, tmp_path / "mask.png", "--model", tiny_eye), ".nii or .nii.gz")
    fails(voxmoe("segment", study, tmp_path / "mask.nii.gz", "--model", study), "no model and no eye here")
    t1 = study / f"{study.name}-t1n.nii.gz"
    fails(voxmoe("segment", study, tmp_path / "mask.nii.gz", "--t1", t1, "--model", tiny_eye), "a study or its files")
    assert not list(tmp_path.iterdir())


def test_segment_writes_over_no_file_of_the_study(voxmoe: Run, cohort: Path, tiny_eye: Path, tmp_path: Path) -> None:
    study = tmp_path / "BraTS-GLI-00001-100"
    shutil.copytree(cohort / study.name, study)
    kept = {file: file.read_bytes() for file in study.iterdir()}
    for role in ("seg", "t2w"):
        file = study / f"{study.name}-{role}.nii.gz"
        fails(voxmoe("segment", study, file, "--model", tiny_eye, "--without", "T2"), f"{file}: is a file of the study")
    assert {file: file.read_bytes() for file in study.iterdir()} == kept


def test_a_ct_is_not_segmented(voxmoe: Run, tiny_eye: Path, tmp_path: Path) -> None:
    data = np.full((12, 12, 12), -1000, np.float32)
    data[2:10, 2:10, 2:10] = 40
    data[4:6, 4:6, 4:6] = -100
    write_volume(Volume(data, np.eye(4)), tmp_path / "ct.nii.gz")
    asked = (
        "segment",
        "--t1",
        tmp_path / "ct.nii.gz",
        tmp_path / "mask.nii.gz",
        "--profile",
        "gli",
        "--model",
        tiny_eye,
    )
    fails(voxmoe(*asked), "has the values of a CT")
    fails(voxmoe("segment", tmp_path / "ct.nii.gz", asked[3], "--model", tiny_eye), "is one file", "a CT needs a model")
    assert not (tmp_path / "mask.nii.gz").exists()


def test_report_tells_the_labels_of_the_release_where_the_model_knows_them(
    voxmoe: Run, cohort: Path, tiny_model: Path
) -> None:
    asked: tuple[str | Path, ...] = ("report", cohort / "BraTS-GLI-00001-100", "--model", tiny_model)

    def reported(*more: str) -> tuple[str, list[str]]:
        code, printed, _ = voxmoe(*asked, "--json", *more)
        assert code == 0
        told = json.loads(printed)
        return told["profile"], list(told["labels"])

    assert reported() == reported("--profile", "gli") == ("gli-2024", ["NETC", "SNFH", "ET", "RC"])
    assert reported("--profile", "met-2024") == ("met-2024", ["NETC", "SNFH", "ET"])
    assert "LABELS     those of met-2024" in voxmoe(*asked, "--profile", "met-2024")[1]
    fails(
        voxmoe(*asked, "--profile", "brats-2021"), "--profile brats-2021", "was not trained on its labels", "gli-2024"
    )


def test_report_refuses_what_it_would_not_heed(voxmoe: Run, cohort: Path, tiny_model: Path) -> None:
    study = cohort / "BraTS-GLI-00001-100"
    t2 = study / f"{study.name}-t2w.nii.gz"
    model = ("--model", tiny_model)
    fails(voxmoe("report", study, *model, "--flair", t2), f"{study}: was named beside --flair")
    fails(voxmoe("report", study, *model, "--protocol", "code-v3"), "--protocol code-v3", "say --mask")
    fails(voxmoe("report", study, *model, "--mask", "--heads-alone"), "leave out --model, --heads-alone")


def test_a_mask_is_measured_without_the_images_that_are_left_out(voxmoe: Run, cohort: Path) -> None:
    asked = ("report", cohort / "BraTS-GLI-00001-100", "--mask", "--profile", "gli-2024", "--json")
    images = [word for name in ("T1", "T1Gd", "T2", "FLAIR") for word in ("--without", name)]
    without = json.loads(voxmoe(*asked, *images)[1])
    assert without["modalities"] == []
    whole = json.loads(voxmoe(*asked)[1])["labels"]
    for key, label in without["labels"].items():
        assert label["volume"] == [], "no image shows how large the brain is"
        assert label["present"] == whole[key]["present"]


def test_what_the_system_refuses_is_an_error_of_one_line(voxmoe: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise PermissionError(13, "Permission denied", "/somewhere/mask.nii.gz")

    monkeypatch.setattr("voxmoe.cli.main.app", refused)
    fails(voxmoe("info"), "/somewhere/mask.nii.gz: Permission denied")


def test_a_dataset_with_a_label_table_of_its_own_is_reported_and_evaluated(
    voxmoe: Run, tiny_model: Path, tmp_path: Path
) -> None:
    assert voxmoe("phantom", tmp_path, "--n", "3", "--profile", "nnunet", "--jobs", "1")[0] == 0
    cohort = tmp_path / "Dataset001_Phantom"
    case = min(file.name for file in (cohort / "labelsTr").iterdir()).removesuffix(".nii.gz")
    code, printed, _ = voxmoe("report", f"{cohort}/{case}", "--mask", "--json")
    assert code == 0
    told = json.loads(printed)
    assert told["profile"] == "nnunet:Dataset001_Phantom"
    assert len(told["labels"]) == 3
    assert voxmoe("build", cohort, tmp_path / "own", "--jobs", "1")[0] == 0
    code, printed, _ = voxmoe("evaluate", tiny_model, tmp_path / "own", "--cross", "--split", "all", "--json")
    assert code == 0
    assert json.loads(printed)["cross"]["asked_about"] == ["nnunet:Dataset001_Phantom"]


def test_a_mask_is_reported_without_a_model(voxmoe: Run, cohort: Path) -> None:
    study = cohort / "BraTS-GLI-00001-100"
    mask = study / f"{study.name}-seg.nii.gz"
    truth = json.loads(voxmoe("findings", study, "--json")[1])
    for target, modalities in ((study, ["T1", "T1Gd", "T2", "FLAIR"]), (mask, [])):
        code, printed, _ = voxmoe("report", target, "--mask", "--profile", "gli-2024", "--json")
        assert code == 0
        report = json.loads(printed)
        assert report["source"] == "mask"
        assert report["modalities"] == modalities
        assert list(report["labels"]) == ["NETC", "SNFH", "ET", "RC"]
        for key, label in report["labels"].items():
            assert label["present"] == truth["labels"][key]["present"]
    code, printed, _ = voxmoe("report", study, "--mask", "--profile", "gli-2024")
    assert code == 0
    assert "IMAGES     T1, T1Gd, T2" in printed
    assert '"FLAIR"' not in voxmoe("report", study, "--mask", "--without", "FLAIR", "--json")[1].split('"missing"')[0]
    fails(voxmoe("report", mask, "--mask", "--profile", "gli-2024", "--flair", mask), "leave out --flair")
    assert "NOT COVERED" in printed.upper()


def test_the_cache_is_told_and_pruned(voxmoe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXMOE_HOME", str(tmp_path))
    for number, days in enumerate((0, 10)):
        entry = tmp_path / "features" / "ab" / f"ab{number}.safetensors"
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.write_bytes(bytes(1_500_000))
        then = time.time() - 24 * 60 * 60 * days
        os.utime(entry, (then, then))
    code, printed, _ = voxmoe("cache")
    assert code == 0
    assert f"{tmp_path}: 3.0 MB" in printed
    assert re.search(r"features +2 +3\.0 MB +what encoders see of studies", printed)
    fails(voxmoe("cache", "prune"), "give --older-than DAYS, --max-size GB or --all")
    assert voxmoe("cache", "prune", "--older-than", "9")[1] == "1 files removed, 1.5 MB\n"
    assert json.loads(voxmoe("cache", "prune", "--max-size", "0.001", "--json")[1]) == {"files": 1, "bytes": 1_500_000}
    assert json.loads(voxmoe("cache", "--json")[1])["bytes"] == 0


def test_what_a_file_of_weights_held_is_said(voxmoe: Run, tiny_recipe: Path, tmp_path: Path) -> None:
    from voxmoe.model.encoder import make_encoder
    from voxmoe.training.recipe import load_recipe

    vision = load_recipe(tiny_recipe).model.vision
    assert vision is not None
    state = {f"vision_encoder.{name}": tensor for name, tensor in make_encoder(vision).state_dict().items()}
    save_file({**state, "language.weight": torch.zeros(2)}, tmp_path / "clip.safetensors")
    changes = [f"model.vision.weights={tmp_path / 'clip.safetensors'}", "eye=null", "fit.max_steps=1"]
    code, _, said = voxmoe("train", tiny_recipe, *changes, f"out={tmp_path / 'model'}")
    assert code == 0
    held = f"{len(state)} tensors loaded from under 'vision_encoder.'; left aside: language (1)"
    assert f"{tmp_path / 'clip.safetensors'}: {held}" in said.splitlines()
