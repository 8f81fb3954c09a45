"""Files of weights: what is found where, strict loading with its report, and pickles that are converted or refused."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from voxmoe.errors import WeightsError
from voxmoe.model.dcformer import DCFormer, DCFormerSettings
from voxmoe.model.encoder import load_encoder, start_encoder
from voxmoe.model.vision import VisionEncoder, VisionSettings
from voxmoe.model.weights import convert_pickle, digest, find_weights

SMALL = VisionSettings(grid=(4, 8, 16), patch=(2, 2, 4), pool=(1, 2, 2), hidden=12, layers=2, heads=3, mlp=24)


def encoder(seed: int = 0) -> VisionEncoder:
    torch.manual_seed(seed)
    return VisionEncoder(SMALL)


def clip_file(folder: Path, seed: int = 1) -> Path:
    """A file as M3D-CLIP's: the encoder under a prefix, beside a text encoder and projections."""
    state = {f"vision_encoder.{name}": tensor for name, tensor in encoder(seed).state_dict().items()}
    others = ("language_encoder.embeddings.word_embeddings.weight", "language_encoder.pooler.dense.bias", "logit_scale")
    save_file(state | {name: torch.ones(2) for name in others}, folder / "model.safetensors")
    return folder / "model.safetensors"


def equal(one: VisionEncoder, other: VisionEncoder) -> bool:
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_the_encoder_is_found_alone_and_inside_the_whole_clip(tmp_path: Path) -> None:
    alone = tmp_path / "vit.safetensors"
    save_file(encoder(1).state_dict(), alone)
    (tmp_path / "clip").mkdir()
    for place, prefix, aside in (
        (alone, "", {}),
        (clip_file(tmp_path / "clip"), "vision_encoder.", {"language_encoder": 2, "logit_scale": 1}),
    ):
        loaded = encoder()
        report = load_encoder(loaded, str(place))
        assert equal(loaded, encoder(1))
        assert (report.prefix, report.left_aside, report.loaded) == (prefix, aside, len(loaded.state_dict()))
        for word in (str(place), str(report.loaded), prefix, *aside):
            assert word in str(report)


def test_a_dcformer_is_found_too(tmp_path: Path) -> None:
    settings = DCFormerSettings(grid=(32, 32, 32), channels=(4, 6, 8), blocks=(1, 1), kernels=(3, 3))
    torch.manual_seed(3)
    published = DCFormer(settings).state_dict()
    save_file({f"visual.{name}": tensor for name, tensor in published.items()}, tmp_path / "clip.safetensors")
    started, recorded = start_encoder(settings.model_copy(update={"weights": str(tmp_path)}))
    assert all(torch.equal(tensor, published[name]) for name, tensor in started.state_dict().items())
    assert recorded.fingerprint == digest(published)


def without(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.pop(name)


def with_(name: str, *shape: int) -> Callable[[dict[str, Tensor]], object]:
    return lambda state: state.update({name: torch.zeros(shape)})


@pytest.mark.parametrize("prefix", ["", "vision_encoder."])
@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (without("blocks.1.norm2.weight"), r"missing \['blocks\.1\.norm2\.weight'\]; unexpected none"),
        (with_("blocks.2.norm2.weight", 12), r"missing none; unexpected \['blocks\.2\.norm2\.weight'\]"),
        (with_("classification_head.0.bias", 2), r"unexpected \['classification_head\.0\.bias'\]"),
        (with_("cls_token", 1, 1, 13), r"of another shape \['cls_token \(1, 1, 13\) for \(1, 1, 12\)'\]"),
    ],
)
def test_what_does_not_fit_is_listed(
    prefix: str, change: Callable[[dict[str, Tensor]], object], pattern: str, tmp_path: Path
) -> None:
    state = encoder().state_dict()
    change(state)
    save_file({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=pattern):
        load_encoder(encoder(), str(tmp_path))


def test_a_file_without_an_encoder_or_with_two_is_refused(tmp_path: Path) -> None:
    save_file({"something.else": torch.zeros(1)}, tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match=r"is nowhere; it holds something\.else"):
        load_encoder(encoder(), str(tmp_path / "none.safetensors"))
    state = encoder().state_dict()
    both = {f"{prefix}.{name}": tensor.clone() for prefix in "ab" for name, tensor in state.items()}
    save_file(both, tmp_path / "two.safetensors")
    with pytest.raises(WeightsError, match=r"in 2 places \(a\., b\.\)"):
        load_encoder(encoder(), str(tmp_path / "two.safetensors"))


def test_weights_are_found_by_file_folder_or_not_at_all(tmp_path: Path) -> None:
    def refused(place: Path | str, pattern: str) -> None:
        with pytest.raises(WeightsError, match=pattern):
            find_weights(str(place))

    refused(tmp_path, "holds no safetensors file$")
    torch.save({}, tmp_path / "pretrained_ViT.bin")
    refused(tmp_path, r"pretrained_ViT\.bin is a pickle, convert it once: voxmoe weights .*pretrained_ViT\.bin")
    refused(tmp_path / "pretrained_ViT.bin", r"not a safetensors file.*voxmoe weights .*pretrained_ViT\.safetensors")
    one = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(1)}, one)
    assert find_weights(str(tmp_path)) == find_weights(str(one)) == one
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    refused(tmp_path, r"name one of its files: a\.safetensors, b\.safetensors")
    assert find_weights(str(clip_file(tmp_path))) == find_weights(str(tmp_path))
    refused(tmp_path / "none", "no such folder, and no name that a model on the hub can have")
    refused("folder/pretrained_ViT.bin", "no such file or folder")
    refused("GoodBaiBai88/M3D-CLIP", r"GoodBaiBai88/M3D-CLIP: the hub does not answer")


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    file = clip_file(tmp_path)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        load_encoder(encoder(), str(file))


def test_the_fingerprint_of_what_an_encoder_starts_from_is_recorded_and_checked(tmp_path: Path) -> None:
    place = str(clip_file(tmp_path))
    started, settings = start_encoder(SMALL.model_copy(update={"weights": place}))
    assert equal(started, encoder(1))
    assert settings.fingerprint == digest(encoder(1).state_dict())
    assert start_encoder(settings)[1] == settings
    clip_file(tmp_path, seed=2)
    with pytest.raises(WeightsError, match="is not the one that is asked for"):
        start_encoder(settings)


def test_a_pickle_of_tensors_is_converted_bit_by_bit(tmp_path: Path) -> None:
    state = encoder().state_dict()
    state["tied"] = state["cls_token"]
    state["turned"] = state["blocks.0.attn.qkv.weight"].T
    for name, content in (("plain.bin", state), ("nested.pt", {"state_dict": state})):
        torch.save(content, tmp_path / name)
        out = tmp_path / f"{name}.safetensors"
        convert_pickle(tmp_path / name, out)
        found = load_file(out)
        assert found.keys() == state.keys()
        assert all(torch.equal(tensor, state[key]) for key, tensor in found.items())


class _Malicious:
    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return (Path.touch, (Path("written-by-a-pickle"),))  # type: ignore[return-value]


def test_nothing_but_tensors_is_read_from_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source, out = tmp_path / "model.bin", tmp_path / "model.safetensors"

    def refused(pattern: str) -> None:
        with pytest.raises(WeightsError, match=pattern):
            convert_pickle(source, out)
        assert not [file for file in tmp_path.iterdir() if file != source]

    refused("no such file")
    torch.save({"weight": torch.zeros(1), "code": _Malicious()}, source)
    refused("not a PyTorch file of tensors alone")
    source.write_bytes(pickle.dumps(_Malicious(), protocol=2))
    refused("not a PyTorch file of tensors alone")
    source.write_bytes(b"")
    refused("not a PyTorch file of tensors alone")
    torch.save({"weight": torch.zeros(1), "epoch": 3}, source)
    refused("these are not tensors: epoch")
    torch.save([torch.zeros(1)], source)
    refused("holds list, not tensors by name")
    with pytest.raises(WeightsError, match=r"ends in \.safetensors"):
        convert_pickle(source, tmp_path / "model.pt")


@pytest.mark.parametrize(
    "content", [b"a,b,c\n1,2,3\n", b"hello\n", b"version https://git-lfs", b"\x80\x02", b"PK\x03\x04"]
)
def test_a_file_that_is_no_pickle_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "text.bin").write_bytes(content)
    with pytest.raises(WeightsError, match=r"text\.bin: not a PyTorch file of tensors alone"):
        convert_pickle(tmp_path / "text.bin", tmp_path / "out.safetensors")
