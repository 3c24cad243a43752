from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from toolkit_core.encoders.bge import BgeEncoder
from toolkit_core.encoders.clip import ClipTextEncoder, ClipVisionEncoder
from toolkit_core.encoders.weights import find_weights, make_encoder
from toolkit_core.errors import WeightsMissing
from toolkit_core.spaces import SPACES


@pytest.fixture
def clip_g(tiny_weights: Path) -> Path:
    return tiny_weights / "clip_g.safetensors"


def test_tiny_weights_are_found_and_make_all_four_encoders(tiny_weights: Path) -> None:
    found = find_weights([tiny_weights])
    assert {space: location.path for space, location in found.items()} == {
        "bge": tiny_weights / "bge",
        **{space: tiny_weights / f"{space}.safetensors" for space in ("clip_h", "clip_l", "clip_g")},
    }
    kinds = {space: type(make_encoder(location)) for space, location in found.items()}
    assert kinds == {
        "bge": BgeEncoder,
        "clip_h": ClipVisionEncoder,
        "clip_l": ClipTextEncoder,
        "clip_g": ClipTextEncoder,
    }


def test_missing_weights_say_where_they_were_looked_for(tmp_path: Path) -> None:
    location = find_weights([tmp_path, tmp_path / "not there"])["clip_h"]
    assert location.path is None
    with pytest.raises(WeightsMissing, match=r"clip_h.*not there.*ViT-H/14"):
        make_encoder(location)


def test_nothing_to_look_in_finds_nothing() -> None:
    found = find_weights([])
    assert set(found) == set(SPACES)
    assert all(location.path is None and location.problem for location in found.values())


def test_an_only_candidate_is_taken_whatever_its_name(clip_g: Path, tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "c" / "whatever.safetensors"
    file.parent.mkdir(parents=True)
    shutil.copy(clip_g, file)
    assert find_weights([tmp_path])["clip_g"].path == file


def test_too_deep_is_not_searched(clip_g: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c" / "d"
    folder.mkdir(parents=True)
    shutil.copy(clip_g, folder)
    assert find_weights([tmp_path])["clip_g"].path is None


def test_a_well_known_name_wins_over_others(clip_g: Path, tmp_path: Path) -> None:
    for name in ("a_finetune.safetensors", "Clip-G.safetensors", "z_other.safetensors"):
        shutil.copy(clip_g, tmp_path / name)
    assert find_weights([tmp_path])["clip_g"].path == tmp_path / "Clip-G.safetensors"


def test_several_unknown_names_are_a_problem_that_names_them(clip_g: Path, tmp_path: Path) -> None:
    for name in ("one.safetensors", "two.safetensors"):
        shutil.copy(clip_g, tmp_path / name)
    location = find_weights([tmp_path])["clip_g"]
    assert location.path is None
    assert location.problem is not None
    assert "one.safetensors" in location.problem
    assert "two.safetensors" in location.problem
    assert "settings" in location.problem


def test_the_first_folder_wins_between_two_of_one_name(clip_g: Path, tmp_path: Path) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        shutil.copy(clip_g, tmp_path / folder)
    assert find_weights([tmp_path / "second", tmp_path / "first"])["clip_g"].path == tmp_path / "second" / clip_g.name


def _checkpoint(file: Path, clip_g: Path) -> Path:
    tensors: dict[str, Any] = {f"conditioner.embedders.1.model.{k}": v for k, v in load_file(clip_g).items()}
    save_file({"model.diffusion_model.out.0.weight": torch.zeros(4), **tensors}, file)
    return file


def test_a_full_checkpoint_is_taken_only_when_named(clip_g: Path, tmp_path: Path) -> None:
    file = _checkpoint(tmp_path / "sdxl.safetensors", clip_g)
    assert find_weights([tmp_path])["clip_g"].path is None
    assert find_weights([tmp_path], {"clip_g": file})["clip_g"].path == file


def test_a_named_file_wins_over_folders(tiny_weights: Path, clip_g: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(clip_g, tmp_path / "mine.safetensors"))
    found = find_weights([tiny_weights], {"clip_g": file})
    assert found["clip_g"].path == file
    assert found["clip_l"].path == tiny_weights / "clip_l.safetensors"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.safetensors", None, "does not exist"),
        ("bad.safetensors", b"no", "can't be read"),
        ("x.ckpt", b"no", "Pickled"),
    ],
)
def test_a_named_file_that_can_not_be_used_is_a_problem(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    location = find_weights([], {"clip_l": file})["clip_l"]
    assert location.path is None
    assert location.problem is not None
    assert message in location.problem


def test_a_named_file_of_another_model_is_a_problem(clip_g: Path) -> None:
    problem = find_weights([], {"clip_l": clip_g})["clip_l"].problem
    assert problem is not None
    assert "no weights for it" in problem


@pytest.mark.parametrize("named", ["bge", "bge/onnx/model.onnx"])
def test_bge_may_be_named_by_its_folder_or_its_graph(named: str, tiny_weights: Path) -> None:
    assert find_weights([], {"bge": tiny_weights / named})["bge"].path == tiny_weights / "bge"


def test_unreadable_files_beside_good_ones_are_passed_over(clip_g: Path, tmp_path: Path) -> None:
    shutil.copy(clip_g, tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    (tmp_path / "folder.safetensors").mkdir()
    assert find_weights([tmp_path])["clip_g"].path == tmp_path / clip_g.name


def test_a_symlink_loop_ends(clip_g: Path, tmp_path: Path, symlink: Callable[[Path, Path], None]) -> None:
    shutil.copy(clip_g, tmp_path)
    symlink(tmp_path / "loop", tmp_path)
    assert find_weights([tmp_path])["clip_g"].path == tmp_path / clip_g.name


@pytest.fixture
def symlink() -> Callable[[Path, Path], None]:
    def make(link: Path, target: Path) -> None:
        try:
            link.symlink_to(target, target_is_directory=True)
        except OSError:
            pytest.skip("this system does not let us make symbolic links")

    return make
