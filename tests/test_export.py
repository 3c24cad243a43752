"""Exports: every format against the library's own vectors, and what a kill, a full disk and a wrong target leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from toolkit_core.database import export_rows, images, reembedding, vectors
from toolkit_core.database.images import ImageRow
from toolkit_core.database.segments import seal
from toolkit_core.errors import ExportError, FilterError, FolderNotAllowed, ImageNotFound
from toolkit_core.export.json_files import KEYS
from toolkit_core.indexing.scan import EPOCH
from toolkit_core.library import Library
from toolkit_core.records import GenerationParameters, Lora, Progress
from toolkit_core.spaces import EMBEDDINGS, SPACES

FORMATS = ("json", "safetensors", "parquet")
LARGEST_SEED = 2**64 - 1
UNDECODABLE = "/pictures/\udcff \N{SNOWMAN}.png"
COLUMNS = {name: embedding.view_column for name, embedding in EMBEDDINGS.items()}


def row(path: str, prompt: str | None = None, negative: str | None = None, **parameters: Any) -> ImageRow:
    made = GenerationParameters(prompt=prompt, negative_prompt=negative, **parameters)
    return ImageRow(path, path.encode("utf-8", "surrogateescape"), 1, EPOCH, 832, 1216, made, None)


def fill(library: Library, rows: Sequence[ImageRow]) -> list[int]:
    """Store images with random vectors in every space; a third of the values are subnormal, or whole, or large."""
    random = np.random.default_rng(11)
    with library.database.transaction() as connection:
        ids = [id for own in rows for id in images.write(connection, [own])]  # one by one, so that ids are in order
        for space in SPACES.values():
            owners = [id for id, _ in vectors.pending(connection, space, 0, 2 * len(rows))]
            scales = random.choice([1, 1, 1e-7, 1000], (len(owners), space.width)).astype(np.float32)
            values = random.standard_normal((len(owners), space.width), np.float32) * scales
            vectors.write(connection, space, owners, values)
    return ids


@pytest.fixture(scope="module")
def filled(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """Six images, among them one without a prompt, one whose file has an undecodable name, and one without a vector."""
    with Library.open(home, library="exported", weights=["/nowhere"]) as library:
        fox = {"model": "fox.safetensors", "loras": (Lora("fur", 0.8, 1.0), Lora("ice")), "cfg_scale": 7.1, "steps": 20}
        fill(
            library,
            [
                row("/pictures/1.png", "a fox\n\N{FOX FACE} “quoted”", "blurry", seed=LARGEST_SEED, **fox),
                row("/pictures/2.png", "a badger", seed=2**53 + 1),
                row("/pictures/3.png", seed=-1),
                row(UNDECODABLE, "a fox in snow", "text", seed=7, cfg_scale=float("inf")),
                row("/pictures/5.png", "a badger"),
                row("/pictures/6.png", "pending"),
            ],
        )
        execute(library, "DELETE FROM image_clip_h WHERE image_id = %s", 6)
        execute(library, "DELETE FROM prompt_bge WHERE prompt_id = (SELECT prompt_id FROM image_file WHERE id = %s)", 6)
        execute(library, "UPDATE image_file SET favorite = true, rating = 9, tags = '{red,fox}' WHERE id = %s", 1)
        yield library


def execute(library: Library, statement: str, *values: object) -> None:
    with library.database.transaction() as connection:
        connection.execute(statement.encode(), values)


def from_json(document: dict[str, Any]) -> dict[str, np.ndarray]:
    return {
        name: np.array(document[key], np.float32)
        for name, key in KEYS.items()
        if key in document and document[key] is not None
    }


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def read_back(target: Path) -> list[tuple[int, dict[str, np.ndarray]]]:
    """The ids of an export in its order, and each image's vectors as float32 by embedding name."""
    if target.suffix == ".safetensors":
        tensors = load_file(target)
        ids = tensors.pop("ids").tolist()
        assert all(tensor.dtype == np.float16 for tensor in tensors.values())
        rows = [{name: t[n].astype(np.float32) for name, t in tensors.items()} for n in range(len(ids))]
        return [
            (id, {name: v for name, v in own.items() if not np.isnan(v).all()})
            for id, own in zip(ids, rows, strict=True)
        ]
    if target.suffix == ".parquet":
        return [
            (own["id"], {n: np.array(own[c], np.float32) for n, c in COLUMNS.items() if own.get(c) is not None})
            for own in read_parquet(target)
        ]
    listed = read_json(target / "manifest.json")["Images"]
    documents = [read_json(target / entry["File"]) for entry in listed]
    assert [document["ImageId"] for document in documents] == [entry["ImageId"] for entry in listed]
    return [(document["ImageId"], from_json(document)) for document in documents]


def read_parquet(target: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(target).to_pylist()


def name_of(format: str) -> str:
    return "set" if format == "json" else f"set.{format}"


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("format", FORMATS)
def test_every_vector_comes_back_as_it_is_stored(filled: Library, tmp_path: Path, format: str) -> None:
    target = tmp_path / name_of(format)
    report = filled.export(target)
    found = read_back(target)
    assert [id for id, _ in found] == [1, 2, 3, 4, 5, 6]
    for id, stored in found:
        assert same(stored, filled.embeddings(id)), id
    assert sorted(found[2][1]) == ["clip_h"]
    assert sorted(found[5][1]) == ["bge_negative", "clip_g", "clip_l"]
    assert (report.images, report.without_embeddings, report.format) == (6, 0, format)
    assert report.missing == {"bge": 2, "bge_negative": 1, "clip_h": 1, "clip_l": 1, "clip_g": 1}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (report.files, report.bytes) == (len(files), sum(path.stat().st_size for path in files))
    assert not [path for path in left_in(tmp_path) if path.endswith(".part")]


@pytest.mark.parametrize("format", FORMATS)
def test_ids_keep_their_order_and_filter_and_embeddings_choose(filled: Library, tmp_path: Path, format: str) -> None:
    target = tmp_path / name_of(format)
    filled.export(target, ids=iter([5, 1, 4, 5, 2]), embeddings=["image", "clip_l", "clip_h"])
    found = read_back(target)
    assert [id for id, _ in found] == [5, 1, 4, 2]
    assert all(sorted(stored) == ["clip_h", "clip_l"] for _, stored in found)
    filled.export(target, filter="seed:>5")
    assert [id for id, _ in read_back(target)] == [1, 2, 4]
    report = filled.export(target, filter="seed:>5", ids=[4, 3, 1], embeddings=["bge_negative"])
    assert [id for id, _ in read_back(target)] == [4, 1]
    assert report.images == 2


def test_filter_that_cannot_be_read_writes_nothing(filled: Library, tmp_path: Path) -> None:
    with pytest.raises(FilterError, match="The filter cannot be read at character 1"):
        filled.export(tmp_path / "set.parquet", filter="smell:good")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("format", FORMATS)
def test_export_of_no_image_is_an_empty_one(filled: Library, tmp_path: Path, format: str) -> None:
    report = filled.export(tmp_path / name_of(format), ids=[])
    assert report.images == 0
    assert read_back(tmp_path / name_of(format)) == []


def test_one_image_is_the_json_of_the_guide(filled: Library, tmp_path: Path) -> None:
    report = filled.export(tmp_path / "new" / "folder" / "image_1.json", ids=[1])
    document = read_json(tmp_path / "new" / "folder" / "image_1.json")
    assert (report.files, report.images) == (1, 1)
    assert same(from_json(document), filled.embeddings(1))
    said = {key: value for key, value in document.items() if key not in KEYS.values()}
    assert said == {
        "ImageId": 1,
        "ImagePath": "/pictures/1.png",
        "Width": 832,
        "Height": 1216,
        "Prompt": "a fox\n\N{FOX FACE} “quoted”",
        "NegativePrompt": "blurry",
        "Generator": None,
        "Model": "fox.safetensors",
        "Vae": None,
        "Loras": [
            {"Name": "fur", "StrengthModel": 0.8, "StrengthClip": 1.0},
            {"Name": "ice", "StrengthModel": None, "StrengthClip": None},
        ],
        "Sampler": None,
        "Scheduler": None,
        "Steps": 20,
        "CfgScale": 7.1,
        "Guidance": None,
        "Seed": LARGEST_SEED,
        "Denoise": None,
        "Favorite": True,
        "Rating": 9,
        "Tags": ["red", "fox"],
        "Error": None,
    }
    filled.export(tmp_path / "single.json", ids=[3])
    filled.export(tmp_path / "batch", ids=[3])
    assert (tmp_path / "single.json").read_bytes() == (tmp_path / "batch" / "image_3.json").read_bytes()
    lacking = read_json(tmp_path / "single.json")
    assert [key for key in KEYS.values() if lacking[key] is None] == [
        "ClipL",
        "ClipG",
        "PromptEmbedding",
        "NegativePromptEmbedding",
    ]


def test_every_half_has_the_shortest_text_that_gives_it_back() -> None:
    from toolkit_core.export.json_files import _texts_of_halves

    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    texts = _texts_of_halves()
    finite = np.isfinite(halves)
    again = np.array([json.loads(text) for text, real in zip(texts, finite, strict=True) if real])
    assert np.array_equal(again.astype(np.float32), halves[finite].astype(np.float32))
    assert max(map(len, texts)) <= 15


def test_paths_prompts_and_seeds_are_exact_in_every_format(filled: Library, tmp_path: Path) -> None:
    for format in FORMATS:
        filled.export(tmp_path / name_of(format))
    listed = read_json(tmp_path / "set" / "manifest.json")["Images"]
    of_json = [read_json(tmp_path / "set" / entry["File"]) for entry in listed]
    lines = (tmp_path / "set.safetensors.jsonl").read_text("utf-8").splitlines()
    of_lines = [json.loads(line) for line in lines]
    of_parquet = read_parquet(tmp_path / "set.parquet")
    paths = [os.fsdecode(own["path_bytes"]) if own["path_bytes"] else own["path"] for own in of_parquet]
    for n, id in enumerate([1, 2, 3, 4, 5, 6]):
        image = filled.image(id)
        expected = (id, image.path, image.parameters.prompt, image.parameters.negative_prompt, image.parameters.seed)
        for said in (of_json[n], of_lines[n]):
            assert expected == tuple(said[k] for k in ("ImageId", "ImagePath", "Prompt", "NegativePrompt", "Seed"))
        own = of_parquet[n]
        seed = None if own["seed"] is None else int(own["seed"])
        assert expected == (own["id"], paths[n], own["prompt"], own["negative_prompt"], seed)
    assert paths[3] == UNDECODABLE == listed[3]["ImagePath"]
    assert of_parquet[3]["path"] == "/pictures/\N{REPLACEMENT CHARACTER} \N{SNOWMAN}.png"
    assert (of_json[3]["CfgScale"], of_parquet[3]["cfg_scale"]) == (None, float("inf"))
    assert of_parquet[0]["loras"][0] == {"name": "fur", "strength_model": 0.8, "strength_clip": 1.0}
    assert (of_parquet[0]["tags"], of_parquet[0]["rating"], of_parquet[0]["favorite"]) == (["red", "fox"], 9, True)


def test_files_say_what_made_their_vectors(home: Path, schema: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        fill(library, [row("/a.png", "a fox")])
        with library.database.transaction() as connection:
            for name in ("bge", "clip_h", "clip_l"):
                space = SPACES[name]
                vectors.adopt_encoder(connection, space, f"the {name}", np.ones((1, space.width), np.float32))
        for format in FORMATS:
            library.export(tmp_path / name_of(format))
    expected = {
        "bge": "the bge",
        "bge_negative": "the bge",
        "clip_h": "the clip_h",
        "clip_l": "the clip_l",
        "clip_g": None,
    }
    manifest = read_json(tmp_path / "set" / "manifest.json")
    assert (manifest["Version"], manifest["Count"]) == (1, 1)
    assert {own["Name"]: own["Encoder"] for own in manifest["Embeddings"].values()} == expected
    assert manifest["Embeddings"]["ClipG"]["Width"] == 1280
    with safe_open(tmp_path / "set.safetensors", "numpy") as file:
        said = file.metadata()
    assert json.loads(said["encoders"]) == expected
    assert (tmp_path / json.loads(said["texts"])).is_file()
    assert json.loads(pq.read_schema(tmp_path / "set.parquet").metadata[b"encoders"]) == expected


def test_batches_follow_each_other(home: Path, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit_core.database.export_rows.ROWS_A_BATCH", 7)
    monkeypatch.setattr("toolkit_core.database.export_rows.IDS_A_BATCH", 5)
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        ids = fill(library, [row(f"/{n}.png", f"prompt {n % 9}", seed=n) for n in range(40)])
        wanted = np.random.default_rng(1).permutation(ids)[:33].tolist()
        for format in FORMATS:
            told: list[Progress] = []
            target = tmp_path / name_of(format)
            library.export(target, ids=wanted, progress=told.append)
            found = read_back(target)
            assert [id for id, _ in found] == wanted
            assert all(same(stored, library.embeddings(id)) for id, stored in found)
            assert [(step.done, step.total) for step in told] == [(7, 33), (14, 33), (21, 33), (28, 33), (33, 33)]


def test_unknown_ids_are_named_and_nothing_is_written(filled: Library, tmp_path: Path) -> None:
    for unknown, said in (
        ([99], "no image with id 99"),
        ([1, 901, 2, 902], "ids 901, 902"),
        (range(900, 1000), "ids 900, 901, 902, 903, 904 and 95 more"),
        ([2**70], f"no image with id {2**70}"),
        ([1, True], "True is no image's id: those are whole numbers"),
        ([1.0], r"1\.0 is no image's id"),
    ):
        with pytest.raises(ImageNotFound, match=said):
            filled.export(tmp_path / "new" / "set.safetensors", ids=unknown)  # pyright: ignore[reportArgumentType]
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("set.csv", {}, "'csv' is no format"),
        ("set.parquet", {"format": "csv"}, "'csv' is no format"),
        ("set.parquet", {"format": "safetensors"}, "does not end in .safetensors"),
        ("set.parquet", {"format": "json"}, "does not end in .json"),
        ("picture.png", {"format": "parquet"}, "does not end in .parquet"),
        ("set.safetensors", {"embeddings": ["smell"]}, "'smell' is no embedding"),
        ("new/set.json", {}, "takes one image, and 6 were asked for"),
        ("set.json", {"ids": []}, "takes one image, and no image of the library is what was asked for"),
        ("set.json", {"filter": "nosuchword"}, "takes one image, and no image of the library is what was asked for"),
        ("folder.parquet", {}, "is a folder"),
        ("kept", {}, "holds other things than an earlier export"),
        ("a_file", {}, "is no folder"),
        ("n" * 300 + ".json", {"ids": [1]}, "could not be written: File name too long"),
        ("n" * 300 + ".parquet", {}, "could not be written: File name too long"),
        ("a_file/set.json", {"ids": [1]}, "could not be written: "),
        ("loop/set.json", {"ids": [1]}, "could not be written: "),
    ],
)
def test_export_that_cannot_be_made_says_why(
    filled: Library, tmp_path: Path, name: str, arguments: dict[str, Any], said: str
) -> None:
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "manifest.json").write_text("{}")
    (tmp_path / "a_file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    before = left_in(tmp_path)
    with pytest.raises(ExportError, match=said):
        filled.export(tmp_path / name, **arguments)
    assert left_in(tmp_path) == before


def test_missing_pyarrow_says_how_to_get_it(filled: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what Python knows as a package that is not there
    with pytest.raises(ExportError, match=r"pip install 'diffusion-toolkit\[parquet\]'"):
        filled.export(tmp_path / "set.parquet")
    assert left_in(tmp_path) == []


def test_target_has_to_lie_below_a_root(filled: Library, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "root_2"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    filled.export(root / "new" / "set.parquet", roots=[root])
    (tmp_path / "linked").symlink_to(root)
    filled.export(root / "set.parquet", roots=[outside, tmp_path / "linked"])
    for target in (outside / "set", root / "link" / "set.parquet", root / ".." / "set", root, tmp_path):
        with pytest.raises(FolderNotAllowed, match=r"add the line roots = \[.*\] to .*settings\.toml"):
            filled.export(target, roots=[root])
    with pytest.raises(FolderNotAllowed, match="there is none"):
        filled.export(root / "set", roots=[])
    assert left_in(outside) == []


def test_folder_of_an_earlier_export_is_brought_up_to_date(filled: Library, tmp_path: Path) -> None:
    target = tmp_path / "set"
    target.mkdir()  # An empty one is taken as well.
    filled.export(target, ids=[1, 2, 3])
    (target / "image_2.txt").write_text("a caption of the user's own")
    filled.export(target, ids=[4, 2], embeddings=["clip_l"])
    assert left_in(tmp_path) == [
        "set",
        *(f"set/{name}" for name in ("image_2.json", "image_2.txt", "image_4.json", "manifest.json")),
    ]
    assert [id for id, _ in read_back(target)] == [4, 2]
    assert "ClipG" not in read_json(target / "image_2.json")


@pytest.mark.parametrize("format", FORMATS)
def test_stopped_export_leaves_what_was_there(filled: Library, tmp_path: Path, format: str) -> None:
    target = tmp_path / name_of(format)

    class Cancelled(Exception):
        pass

    def cancel(progress: Progress) -> None:
        assert [path for path in left_in(tmp_path) if path.endswith(".part")]
        raise Cancelled

    with pytest.raises(Cancelled):
        filled.export(target, progress=cancel)
    assert left_in(tmp_path) == []
    filled.export(target, ids=[2])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(Cancelled):
        filled.export(target, progress=cancel)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not [path for path in left_in(tmp_path) if path.endswith(".part")]


@pytest.mark.parametrize(("name", "lists"), [("set.safetensors", "set.safetensors"), ("set", "set/manifest.json")])
def test_export_that_ends_while_it_takes_the_place_of_another_leaves_nothing_that_speaks_of_both(
    filled: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lists: str
) -> None:
    """Of several files, that which says what is in the others is there only where it is right."""
    (tmp_path / "set").mkdir()
    filled.export(tmp_path / name, ids=[2, 1])
    assert (tmp_path / lists).exists()
    replace = Path.replace
    replaced: list[Path] = []

    class Killed(BaseException):
        pass

    def replace_one(part: Path, target: Path) -> Path:
        if part.name not in ("set.safetensors.jsonl.part", "manifest.json"):
            raise Killed
        replaced.append(target)
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", replace_one)
    with pytest.raises(Killed):
        filled.export(tmp_path / name, ids=[1, 2, 3])
    assert len(replaced) == 1
    assert not (tmp_path / lists).exists()
    monkeypatch.undo()
    filled.export(tmp_path / name, ids=[1, 2, 3])
    assert [id for id, _ in read_back(tmp_path / name)] == [1, 2, 3]


def test_two_exports_do_not_write_one_target(filled: Library, tmp_path: Path) -> None:
    def meanwhile(progress: Progress) -> None:
        with pytest.raises(ExportError, match="Another export is writing"):
            filled.export(tmp_path / "set.parquet", ids=[1])

    assert filled.export(tmp_path / "set.parquet", progress=meanwhile).images == 6


def test_export_is_of_one_moment(home: Path, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit_core.database.export_rows.ROWS_A_BATCH", 5)
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        ids = fill(library, [row(f"/{n}.png", f"prompt {n}") for n in range(12)])

        def meanwhile(progress: Progress) -> None:
            if progress.done == 5:
                execute(library, "DELETE FROM image_clip_h")
                execute(library, "DELETE FROM image_file")

        report = library.export(tmp_path / "set.safetensors", embeddings=["clip_h"], progress=meanwhile)
        assert (report.images, report.missing) == (12, {"clip_h": 0})
        assert load_file(tmp_path / "set.safetensors")["ids"].tolist() == ids


def seal_again(library: Library) -> None:
    seal(library.database, rows_worth_an_index=5, rebuild=True)


def make_pictures_again(library: Library) -> None:
    """With weights that make no vector at all."""
    with library.database.transaction() as connection:
        reembedding.begin(connection, SPACES["clip_h"], "others", np.zeros((1, SPACES["clip_h"].width), np.float32))
    reembedding.switch(library.database, SPACES["clip_h"], "hnsw", lambda _: None)


def is_held_up(library: Library) -> bool:
    """Whether somebody waits for a lock of this library's tables."""
    with library.database.transaction() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
            " WHERE NOT l.granted AND c.relnamespace = current_schema()::regnamespace"
        ).fetchone()
    return row != (0,)


@pytest.mark.parametrize("exchange", [seal_again, make_pictures_again])
def test_export_has_every_vector_though_tables_are_exchanged_before_it_reads_them(
    home: Path, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: Callable[[Library], None]
) -> None:
    with Library.open(home, library=schema, weights=["/nowhere"]) as library, ThreadPoolExecutor(1) as pool:
        fill(library, [row(f"/{n}.png", f"prompt {n}", "blurry") for n in range(12)])
        exchanges = []
        choose = export_rows.select

        def meanwhile(*arguments: Any) -> Any:
            exchanges.append(pool.submit(exchange, library))
            while not exchanges[0].done() and not is_held_up(library):
                time.sleep(0.01)
            return choose(*arguments)

        monkeypatch.setattr(export_rows, "select", meanwhile)
        report = library.export(tmp_path / "set.safetensors")
        assert (report.images, report.without_embeddings, set(report.missing.values())) == (12, 0, {0})
        exchanges[0].result()


def test_ids_may_come_from_a_generator_that_exchanges_tables(home: Path, schema: str, tmp_path: Path) -> None:
    with Library.open(home, library=schema, weights=["/nowhere"]) as library:
        stored = fill(library, [row(f"/{n}.png", f"prompt {n}", "blurry") for n in range(12)])

        def ids() -> Iterator[int]:
            yield from stored[:6]
            seal_again(library)
            yield from stored[6:]

        report = library.export(tmp_path / "set.safetensors", ids=ids())
        assert (report.images, report.without_embeddings, set(report.missing.values())) == (12, 0, {0})


EXPORT = """
import sys
from toolkit_core.errors import ExportError
from toolkit_core.library import Library

home, library, target, limit, *images = sys.argv[1:]
ids = range(1, int(images[0]) + 1) if images else None
if int(limit):
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
with Library.open(home, library=library, weights=["/nowhere"]) as opened:
    try:
        opened.export(target, ids=ids, progress=lambda progress: print(progress.done, flush=True))
    except ExportError as error:
        sys.exit(f"ExportError: {error}")
"""


@pytest.fixture(scope="module")
def many(home: Path) -> Iterator[Library]:
    """20,000 images of 50 prompts."""
    with Library.open(home, library="many_exported", weights=["/nowhere"]) as library:
        with library.database.transaction() as connection:
            prompts = images.write(connection, [row(f"/first/{n}.png", f"prompt {n}") for n in range(50)])
            connection.execute(
                "INSERT INTO image_file (path, prompt_id, negative_prompt_id) SELECT '/' || n, o.prompt_id,"
                " o.negative_prompt_id FROM generate_series(51, 20000) n JOIN image_file o ON o.id = 1 + n %% %s",
                [len(prompts)],
            )
            for space in SPACES.values():
                owners = [id for id, _ in vectors.pending(connection, space, 0, 10**6)]
                values = np.random.default_rng(3).standard_normal((50, space.width), np.float32)
                for start in range(0, len(owners), 1000):
                    some = owners[start : start + 1000]
                    vectors.write(connection, space, some, values[np.array(some) % 50])
        with library.database.autocommit() as connection:
            connection.execute("ANALYZE")
        yield library


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize(("format", "earlier"), [("json", False), *((format, True) for format in FORMATS)])
def test_killed_export_leaves_parts_that_the_next_replaces(
    home: Path, many: Library, tmp_path: Path, format: str, earlier: bool
) -> None:
    target = tmp_path / name_of(format)
    if earlier:
        many.export(target, ids=[7, 5])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    command = [sys.executable, "-c", EXPORT, str(home), "many_exported", str(target), "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    parts = {path for path in left if ".part" in str(path.relative_to(tmp_path))}
    assert parts
    assert {path: content for path, content in left.items() if path not in parts} == before
    wait_for_the_lock(many, target)
    assert [id for id, _ in read_back(target)] == [3, 1, 2]
    assert not [path for path in left_in(tmp_path) if ".part" in path]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_kill_while_files_are_moved_into_a_folder_is_mended_by_the_next(
    home: Path, many: Library, tmp_path: Path
) -> None:
    target = tmp_path / "set"
    target.mkdir()
    command = [sys.executable, "-c", EXPORT, str(home), "many_exported", str(target), "0"]
    process = subprocess.Popen([*command, "3000"], stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list(target.iterdir())) < 50:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(target.glob("image_*.json"))) > 40
    assert all(read_json(path)["ImageId"] for path in list(target.glob("image_*.json"))[:100])
    wait_for_the_lock(many, target)
    assert left_in(target) == ["image_1.json", "image_2.json", "image_3.json", "manifest.json"]


def wait_for_the_lock(library: Library, target: Path) -> None:
    """Export three images as soon as the server knows that the killed process is gone."""
    deadline = time.monotonic() + 30
    while True:
        try:
            library.export(target, ids=[3, 1, 2])
            return
        except ExportError as error:
            assert "Another export" in str(error)
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size")
@pytest.mark.parametrize("format", FORMATS)
def test_disk_that_takes_no_more_is_an_error_and_leaves_nothing(
    home: Path, many: Library, tmp_path: Path, format: str
) -> None:
    target = tmp_path / name_of(format)
    many.export(target, ids=[7])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    limit = "100000" if format == "json" else "5000000"
    command = [sys.executable, "-c", EXPORT, str(home), "many_exported", str(target), limit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ExportError: {str(target)!r} could not be written: File too large.")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not [path for path in left_in(tmp_path) if ".part" in path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("format", FORMATS)
def test_full_disk_is_said_and_leaves_room_again(many: Library, small_disk: Path, format: str) -> None:
    target = small_disk / name_of(format)
    many.export(target, ids=[7])
    before = left_in(small_disk)
    with pytest.raises(ExportError, match=r"The disk of .*set.* is full \(No space left on device\). Make room"):
        many.export(target)
    assert left_in(small_disk) == before
    assert [id for id, _ in read_back(target)] == [7]


MEASURE = """
import resource, sys
from toolkit_core.library import Library

home, target, few, many = sys.argv[1:]
with Library.open(home, library="many_exported", weights=["/nowhere"]) as library:
    for images in (int(few), int(many)):
        library.export(target, ids=range(1, images + 1))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units, or not there")
@pytest.mark.parametrize(
    ("format", "few", "many_more"), [("json", 1000, 2500), ("safetensors", 2000, 20_000), ("parquet", 2000, 6000)]
)
def test_memory_does_not_grow_with_the_images(
    home: Path, many: Library, tmp_path: Path, format: str, few: int, many_more: int
) -> None:
    target = tmp_path / name_of(format)
    command = [sys.executable, "-c", MEASURE, str(home), str(target), str(few), str(many_more)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    of_few, of_many = (int(line) / 1024 for line in done.stdout.split())
    halves = (many_more - few) * sum(2 * SPACES[embedding.space].width for embedding in EMBEDDINGS.values())
    assert of_many - of_few < 0.5 * halves / 2**20
