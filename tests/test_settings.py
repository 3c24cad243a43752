"""Settings: the file, the environment, and arguments, the last one winning."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit_core.errors import SettingsError
from toolkit_core.settings import DATABASE_VARIABLE, HOME_VARIABLE, load_settings


def test_argument_wins_over_environment_and_environment_over_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.toml").write_text(
        """
        database_url = "postgresql://file"
        library = "art"
        roots = ["/renders"]
        device = "cpu"
        index = "hnsw_binary"
        pair_index = true
        [weights]
        folders = ["/models"]
        clip_l = '/models/my clip.safetensors'
        """
    )
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    settings = load_settings(weights=["/first"])
    assert (settings.home, settings.database_url, settings.library) == (tmp_path, "postgresql://file", "art")
    assert (settings.roots, settings.device) == ((Path("/renders"),), "cpu")
    assert (settings.index, settings.pair_index) == ("hnsw_binary", True)
    assert settings.weights_folders == (Path("/first"), Path("/models"))
    assert settings.weights_files == {"clip_l": Path("/models/my clip.safetensors")}
    monkeypatch.setenv(DATABASE_VARIABLE, "postgresql://environment")
    assert load_settings().database_url == "postgresql://environment"
    assert load_settings(database_url="postgresql://argument").database_url == "postgresql://argument"


def test_no_file_gives_the_defaults(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    assert (settings.database_url, settings.library, settings.weights_folders) == (None, "diffusion_toolkit", ())


def test_file_that_an_editor_began_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("library = 'art'", encoding="utf-8-sig")
    assert load_settings(tmp_path).library == "art"


def test_dtype_that_there_is_not_is_refused_before_anything_is_to_be_encoded(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no dtype 'foo' for encoders; there are float32, float16, bfloat16"):
        load_settings(tmp_path, dtype="foo")
    assert load_settings(tmp_path, dtype="bfloat16").dtype == "bfloat16"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("librray = 'art'", "unknown setting 'librray'"),
        ("library = 5", "library is 5"),
        ("roots = 'one'", "list of folders"),
        ("index = 'flat'", "there are hnsw, hnsw_binary, ivfflat"),
        ("dtype = 'float8'", "dtype is 'float8'; there are float32, float16, bfloat16"),
        ("dtype = 16", "dtype is 16; there are"),
        ("pair_index = 1", "has to be true or false"),
        ("[weights]\nclip_x = 'a'", "unknown setting weights.clip_x"),
        ("weights = 1", "is a table"),
        ('database_url = "C:\\Users"', "single quotes"),
        ("[", "cannot be read"),
    ],
)
def test_wrong_file_is_explained(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        load_settings(tmp_path)
