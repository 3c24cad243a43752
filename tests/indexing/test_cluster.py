"""Indexing on a Ray cluster: of two nodes on this machine, each with processes of its own."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from toolkit_core.database.claims import Worker, worker
from toolkit_core.errors import ClusterError
from toolkit_core.indexing import cluster as pipeline
from toolkit_core.indexing.embedder import unclaimed
from toolkit_core.indexing.scan import FoundFile, find_file
from toolkit_core.library import Library
from toolkit_core.library.filling import _opened_on_node
from toolkit_core.records import Progress
from toolkit_core.spaces import EMBEDDINGS, SPACES

MakePicture = Callable[..., Path]
NODE = {"num_cpus": 3, "object_store_memory": 100 * 2**20}

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "ignore::ResourceWarning")


def encoding_in(library: Library, held: Worker) -> Any:
    """The second stage, in this process."""
    opened = library.database, library._encoders
    return pipeline._Encoding(lambda _: opened, library.settings, held.id, reindex=False, overwrite=True)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine. Its parameter is what each has besides CPUs."""
    pytest.importorskip("ray.data", reason="Ray is not installed: pip install 'diffusion-toolkit[ray]'")
    if sys.platform == "win32":
        pytest.skip("Ray has clusters of several nodes on Linux and macOS only")
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {**NODE, **getattr(request, "param", {})}
    started = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        started.add_node(**node)
        yield started
    finally:
        started.shutdown()


def content(library: Library) -> dict[str, tuple[Any, ...]]:
    """What is stored of each image, by path, but its vectors."""
    names = "path, prompt, negative_prompt, seed, width, height, error, content_hash"
    with library.database.transaction() as connection:
        return {row[0]: row for row in connection.execute(f"SELECT {names} FROM image".encode())}


def vectors(library: Library) -> dict[str, dict[str, Any]]:
    """The five vectors of each image, by path."""
    return {library.image(id).path: dict(library.embeddings(id)) for id in library.find("")}


def assert_same_vectors(one: Library, other: Library) -> None:
    there, here = vectors(one), vectors(other)
    assert there.keys() == here.keys()
    for path, of_image in there.items():
        assert of_image.keys() == here[path].keys()
        for name, vector in of_image.items():
            # Batches of other sizes round otherwise in the last bits.
            np.testing.assert_allclose(here[path][name], vector, rtol=5e-3, atol=5e-4, err_msg=f"{name} of {path}")


def claims_left(library: Library) -> int:
    with library.database.transaction() as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM indexing_claim").fetchall()
    return count


def test_cluster_fills_a_library_as_one_machine_does(
    cluster: Any,
    home: Path,
    schema: str,
    tiny_weights: Path,
    library: Library,
    make_picture: MakePicture,
    pictures: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for n in range(600):
        make_picture(f"{n}.png", f"prompt {n}", f"negative {n % 3}", seed=n)
    (pictures / "damaged.png").write_bytes(b"no picture")
    caplog.set_level(logging.INFO, "toolkit_core.indexing.cluster")
    seen: list[Progress] = []
    report = library.index_on_ray([pictures], seen.append, address=cluster.address)
    assert (report.new, report.unchanged, [Path(failed.path).name for failed in report.failed]) == (
        601,
        0,
        ["damaged.png"],
    )
    assert report.embedded == {"bge": 603, "clip_h": 600, "clip_l": 603, "clip_g": 603}
    assert (report.pending, report.skipped, report.refused) == (dict.fromkeys(SPACES, 0), {}, {})
    assert claims_left(library) == 0
    assert max(now.done for now in seen if now.stage == "read") == 601
    # Ray's account of each pipeline: the files' two stages, then the texts' two.
    assert re.findall(r"(\d) nodes used", caplog.text).count("2") >= 2

    with Library.open(home, library=f"{schema}_plain", weights=[tiny_weights]) as plain:
        plain.index([pictures])
        assert content(library) == content(plain)
        assert_same_vectors(plain, library)

    again = library.index_on_ray([pictures], address=cluster.address)
    assert (again.new, again.unchanged, sum(again.embedded.values())) == (0, 601, 0)


def test_node_that_is_lost_in_mid_run_loses_nothing(
    cluster: Any, library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(800):
        make_picture(f"{n}.png", f"prompt {n % 5}", seed=n)
    lost = [node for node in cluster.list_all_nodes() if node != cluster.head_node]

    def lose_a_node(now: Progress) -> None:
        if now.stage == "read" and lost:
            cluster.remove_node(lost.pop(), allow_graceful=False)

    report = library.index_on_ray([pictures], lose_a_node, address=cluster.address)
    assert not lost
    # What the lost node had written is unchanged by the time that it is done again.
    assert (report.new + report.unchanged, report.failed, report.pending) == (800, (), dict.fromkeys(SPACES, 0))
    assert claims_left(library) == 0
    assert all(len(of_image) == len(EMBEDDINGS) for of_image in vectors(library).values())
    assert len(content(library)) == 800


# Ray counts GPUs as it is told, and torch looks for itself: the encoders run on what there is.
@pytest.mark.parametrize("cluster", [{"num_gpus": 1}], indirect=True, ids=["with GPUs"])
def test_what_waits_is_filled_on_the_cluster_and_a_moved_file_keeps_its_row(
    cluster: Any, home: Path, schema: str, library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(40):
        make_picture(f"{n}.png", f"prompt {n}", "blurry", seed=n)
    with Library.open(home, library=schema, weights=["/nowhere"]) as without_weights:
        skipped = without_weights.index_on_ray([pictures], address=cluster.address)
        assert (skipped.new, skipped.pending["clip_h"], set(skipped.skipped)) == (40, 40, set(SPACES))
        assert all(reason.startswith("On ") for reason in skipped.skipped.values())
    library.curate(library.find(""), rating=7)
    (pictures / "0.png").rename(pictures / "moved.png")
    report = library.index_on_ray([pictures], address=cluster.address)
    assert (report.moved, report.new, report.unchanged) == (1, 0, 39)
    assert report.embedded == {"bge": 41, "clip_h": 40, "clip_l": 41, "clip_g": 41}
    assert len(library.find("rating:7")) == 40


def test_command_line_indexes_on_a_cluster(
    cluster: Any, home: Path, schema: str, tiny_weights: Path, library: Library, make_picture: MakePicture
) -> None:
    path = make_picture("a.png", "a fox", "blurry")
    options = ["--home", home, "--library", schema, "--weights", tiny_weights, "--ray", cluster.address]
    command = [sys.executable, "-m", "toolkit_core", "index", path.parent, *options]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert "1 new" in done.stdout
    assert len(vectors(library)[str(path)]) == len(EMBEDDINGS)


def test_error_on_a_node_ends_the_run_and_is_told(
    cluster: Any, library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    make_picture("a.png", "a fox")
    settings = library.settings
    library.settings = type(settings)(settings.home, "postgresql://nobody@127.0.0.1:1/nothing", settings.library)
    with pytest.raises(ClusterError, match=r"did not finish the run.*127\.0\.0\.1"):
        library.index_on_ray([pictures], address=cluster.address)
    library.settings = settings
    assert claims_left(library) == 0
    assert library.index([pictures]).new == 1


def test_file_that_a_node_does_not_see_is_told_with_the_node(library: Library, make_picture: MakePicture) -> None:
    here = find_file(str(make_picture("here.png", "a fox")), {})
    assert isinstance(here, FoundFile)
    elsewhere = here._replace(path="/not/mounted/here.png")
    [read] = pipeline._read({"found": [pipeline._Found([here, elsewhere])]}, None)["read"]
    assert [item.path for item in read.work] == [here.path, elsewhere.path]
    assert "does not see it" in read.work[1].error
    # Read by another node, and not to be seen by the one that would write it.
    unseen = pipeline._Read(read.work[:1])
    Path(here.path).unlink()
    with worker(library.database) as held:
        encoding = encoding_in(library, held)
        [done] = encoding({"read": [unseen, read]})["done"]
    assert [failed.path for failed in done.tally.failed] == [here.path, here.path, elsewhere.path]
    assert content(library) == {}


def test_picture_that_waits_and_is_not_seen_is_told_and_stays_pending(
    library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    paths = [make_picture(f"{n}.png") for n in range(2)]
    library.index([pictures], embed=False)
    paths[0].unlink()
    with worker(library.database) as held:
        [waiting] = unclaimed(library.database, held, SPACES["clip_h"])
        [read] = pipeline._read({"found": [pipeline._Found(waiting)]}, None)["read"]
        encoding = encoding_in(library, held)
        [done] = encoding({"read": [read]})["done"]
    assert [failed.path for failed in done.tally.failed] == [str(paths[0])]
    assert done.embedded == {"clip_h": 1}
    assert library.status().pending["clip_h"] == 1


def test_picture_that_is_replaced_between_two_nodes_keeps_no_vector_of_the_old_one(
    library: Library, make_picture: MakePicture, pictures: Path
) -> None:
    for n in range(2):
        make_picture(f"{n}.png")
    library.index([pictures], embed=False)
    with worker(library.database) as held:
        [waiting] = unclaimed(library.database, held, SPACES["clip_h"])
        [read] = pipeline._read({"found": [pipeline._Found(waiting)]}, None)["read"]
        make_picture("0.png")
        assert library.index([pictures], embed=False).changed == 1
        encoding = encoding_in(library, held)
        [done] = encoding({"read": [read]})["done"]
    assert done.embedded == {"clip_h": 1}
    assert library.status().pending["clip_h"] == 1


def test_embedded_database_is_refused_to_several_machines(library: Library) -> None:
    # Two machines cannot be had here: this stands for what Ray says of them.
    nodes = [{"NodeManagerAddress": f"10.0.0.{n}", "Alive": True, "Resources": {"CPU": 4.0}} for n in (1, 2)]
    ray = SimpleNamespace(nodes=lambda: nodes)
    with pytest.raises(ClusterError, match=r"10\.0\.0\.1, 10\.0\.0\.2.*--database-url"):
        pipeline.ClusterIndexer(ray, _opened_on_node, library.settings, library.database, library._encoders)
