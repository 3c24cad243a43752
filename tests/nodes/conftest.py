"""A real ComfyUI on the CPU, started once, with the pack and seeded random weights; graphs go through its API."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
from PIL import Image, PngImagePlugin

HERE = Path(__file__).resolve().parent
PACK = HERE.parents[1]
# Another version of the weights is another folder.
WEIGHTS = Path(platformdirs.user_cache_dir("diffusion-toolkit-tests", False)) / "comfyui-weights-1"
START_SECONDS = 180
JOB_SECONDS = 300

Link = list[Any]


class Graph:
    """A prompt in ComfyUI's API form. `add` gives a node's outputs by number: `graph.add("CLIPLoader", …)(0)`."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}

    def add(self, node: str, **inputs: Any) -> Callable[[int], Link]:
        id = str(len(self.nodes) + 1)
        self.nodes[id] = {"class_type": node, "inputs": inputs}
        return lambda output: [id, output]

    def observe(self, name: str, value: Link) -> None:
        self.add("ObserveTensors", value=value, name=name)

    def observe_list(self, name: str, value: Link) -> None:
        self.add("ObserveList", value=value, name=name)


@dataclass(frozen=True)
class Job:
    """What became of a queued graph. `error` is ComfyUI's exception message; texts: what nodes show, by node class."""

    error: str | None
    interrupted: bool
    texts: dict[str, str]
    cached: list[str]


@dataclass
class ComfyUI:
    """A running server and its folders."""

    url: str
    base: Path
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def output(self) -> Path:
        return self.base / "output"

    @property
    def home(self) -> Path:
        return self.base / "user" / "__diffusion_toolkit"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as response:
            return json.loads(response.read())

    def post(self, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body or {}).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read() or b"null")

    def queue(self, graph: Graph) -> str:
        """Queue a graph; its prompt id. Fails with ComfyUI's own words where it does not validate."""
        try:
            return self.post("/prompt", {"prompt": graph.nodes})["prompt_id"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"ComfyUI refused the graph: {error.read().decode()}") from error

    def wait(self, prompt_id: str) -> Job:
        started = time.monotonic()
        while time.monotonic() - started < JOB_SECONDS:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                return _job(entry)
            assert self.process.poll() is None, self.log.read_text(errors="replace")[-4000:]
            time.sleep(0.05)
        raise AssertionError(f"the graph was not done in {JOB_SECONDS} s")

    def run(self, graph: Graph) -> Job:
        return self.wait(self.queue(graph))

    def done(self, graph: Graph) -> Job:
        """Run a graph that has to succeed."""
        job = self.run(graph)
        assert job.error is None, job.error
        assert not job.interrupted
        return job

    def tensors(self, name: str) -> dict[str, Any]:
        from safetensors.torch import load_file

        return load_file(self.output / f"{name}.safetensors")

    def list(self, name: str) -> Any:
        return json.loads((self.output / f"{name}.json").read_text(encoding="utf-8"))


def _job(entry: dict[str, Any]) -> Job:
    messages = dict(entry["status"]["messages"])
    nodes = entry["prompt"][2]
    texts = {
        nodes[id]["class_type"]: shown["text"][0] for id, shown in entry.get("outputs", {}).items() if "text" in shown
    }
    error = messages.get("execution_error")
    return Job(
        error=error and error["exception_message"],
        interrupted="execution_interrupted" in messages,
        texts=texts,
        cached=[nodes[id]["class_type"] for id in messages.get("execution_cached", {}).get("nodes", [])],
    )


@pytest.fixture(scope="session")
def comfyui_source() -> Path:
    """ComfyUI's folder: COMFYUI_PATH, else the one that this pack lies in, else ~/ComfyUI."""
    named = os.environ.get("COMFYUI_PATH")
    places = [Path(named)] if named else [*PACK.parents, Path.home() / "ComfyUI"]
    for place in places:
        if (place / "main.py").is_file() and (place / "comfy_execution").is_dir():
            return place
    pytest.skip(f"there is no ComfyUI at {places[-1] if named else 'COMFYUI_PATH, above the pack or in ~/ComfyUI'}")


@pytest.fixture(scope="session")
def weights(comfyui_source: Path) -> Path:
    subprocess.run([sys.executable, str(HERE / "make_weights.py"), str(WEIGHTS)], check=True, timeout=600)
    return WEIGHTS


@pytest.fixture(scope="session")
def start_comfyui(comfyui_source: Path) -> Callable[..., Any]:
    """Starts a ComfyUI in a folder of its own, with the pack under a name of its own, and stops it after the block.

    settings: what its user has set in the editor; new outputs are not indexed by themselves, unless they say so.
    pack: the name of the pack's folder. Where it has spaces, ComfyUI serves no scripts of it to the editor.
    """

    @contextlib.contextmanager
    def start(
        base: Path,
        models: Path | None = None,
        settings: dict[str, Any] | None = None,
        pack: str = "my images, 5 embeddings",
        **environment: str,
    ) -> Iterator[ComfyUI]:
        packs = base / "custom_nodes"
        for folder in (packs, base / "input", base / "output", base / "models"):
            folder.mkdir(parents=True)
        settings_file = base / "user" / "default" / "comfy.settings.json"
        settings_file.parent.mkdir(parents=True)
        settings_file.write_text(json.dumps({"DiffusionToolkit.AutoIndex.Mode": "off", **(settings or {})}))
        (packs / pack).symlink_to(PACK, target_is_directory=True)
        (packs / "observer_nodes").symlink_to(HERE / "observer_nodes", target_is_directory=True)
        if (ipadapter := _ipadapter(comfyui_source)) is not None:
            (packs / "ComfyUI_IPAdapter_plus").symlink_to(ipadapter, target_is_directory=True)
        for folder in models.iterdir() if models is not None else ():
            (base / "models" / folder.name).symlink_to(folder, target_is_directory=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments = ["--cpu", "--disable-auto-launch", "--disable-all-custom-nodes", "--whitelist-custom-nodes"]
        arguments += [folder.name for folder in packs.iterdir()]
        arguments += ["--base-directory", str(base), "--port", str(port), "--database-url", "sqlite:///:memory:"]
        log = base / "comfyui.log"
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("DIFFUSION_TOOLKIT", "PYTHONPATH"))}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, str(comfyui_source / "main.py"), *arguments],
                cwd=base,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**outside, **environment},
            )
        comfyui = ComfyUI(f"http://127.0.0.1:{port}", base, log, process)
        try:
            _wait_until_up(comfyui)
            yield comfyui
        finally:
            # As a person stops it, so that it closes the library and the embedded server with it.
            process.send_signal(2)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    return start


@pytest.fixture(scope="session")
def comfyui(start_comfyui: Callable[..., Any], weights: Path, tmp_path_factory: Any) -> Iterator[ComfyUI]:
    """With full-size weights."""
    with start_comfyui(tmp_path_factory.mktemp("comfyui"), weights) as running:
        yield running


@pytest.fixture(scope="module")
def quick_comfyui(start_comfyui: Callable[..., Any], tiny_weights: Path, tmp_path_factory: Any) -> Iterator[ComfyUI]:
    """With tiny weights in the folders where the pack finds them, for what is not about ComfyUI's own models.

    One for each file of tests, so that no file finds in its library what another one has put there.
    """
    models = tmp_path_factory.mktemp("models")
    (models / "text_encoders").symlink_to(tiny_weights, target_is_directory=True)
    with start_comfyui(tmp_path_factory.mktemp("quick_comfyui"), models, pack="5_embeddings") as running:
        yield running


@pytest.fixture(scope="module")
def open_editor() -> Iterator[Callable[[str], Any]]:
    """Opens the editor of a ComfyUI, by its URL, in a real browser; gives the page."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    registered = "Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 300"

    def open_page(url: str) -> Any:
        page = browser.new_page(viewport={"width": 400, "height": 300})
        page.goto(url, timeout=120_000)
        page.wait_for_function(f"window.app?.graph && {registered}", timeout=120_000)
        return page

    with api.sync_playwright() as playwright:
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        try:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        except api.Error as error:
            pytest.skip(f"there is no browser: {error}")
        yield open_page
        browser.close()


@pytest.fixture(scope="session")
def prompt_by_editor() -> Callable[[Any, Any], Any]:
    """The prompt that the editor on a page makes of a workflow."""
    convert = """async workflow => {
        const loaded = app.loadGraphData(workflow, true, true, null, {});
        await Promise.race([loaded, new Promise(done => setTimeout(done, 15000))]);  // a question never ends
        return (await app.graphToPrompt()).output;
    }"""
    return lambda page, workflow: page.evaluate(convert, workflow)


def _ipadapter(comfyui_source: Path) -> Path | None:
    for place in (comfyui_source / "custom_nodes", comfyui_source.parent):
        for name in ("ComfyUI_IPAdapter_plus", "comfyui_ipadapter_plus", "IPAdapter_plus"):
            if (place / name / "IPAdapterPlus.py").is_file():
                return place / name
    return None


def _wait_until_up(comfyui: ComfyUI) -> None:
    started = time.monotonic()
    while time.monotonic() - started < START_SECONDS:
        if comfyui.process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            comfyui.get("/system_stats")
            return
        time.sleep(0.2)
    raise AssertionError(f"ComfyUI did not start:\n{comfyui.log.read_text(errors='replace')[-4000:]}")


def save_comfyui_png(path: Path, seed: int, prompt: str | None, negative: str = "", size: tuple[int, int] = (320, 240)):
    """A PNG of coarse noise with the graph in it that ComfyUI saves."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    metadata = PngImagePlugin.PngInfo()
    if prompt is not None:
        graph = Graph()
        model = graph.add("CheckpointLoaderSimple", ckpt_name="model.safetensors")
        latent = graph.add("EmptyLatentImage", width=size[0], height=size[1], batch_size=1)
        sampler = graph.add(
            "KSampler",
            model=model(0),
            positive=graph.add("CLIPTextEncode", text=prompt, clip=model(1))(0),
            negative=graph.add("CLIPTextEncode", text=negative, clip=model(1))(0),
            latent_image=latent(0),
            seed=seed,
            steps=20,
            cfg=7.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        )
        image = graph.add("VAEDecode", samples=sampler(0), vae=model(2))
        graph.add("SaveImage", images=image(0), filename_prefix="ComfyUI")
        metadata.add_text("prompt", json.dumps(graph.nodes))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, "PNG", pnginfo=metadata)


PROMPTS = (
    "a red fox sleeping in fresh snow",
    "(a lighthouse:1.3) in a storm, oil painting",
    "cyberpunk city at night, neon lights, rain, " + "detailed background, " * 30,
)
NEGATIVE = "blurry, watermark"


class ModelGraph(Graph):
    """A graph with the SDXL CLIP, the CLIP Vision and a tiny SDXL-shaped model: in every graph, so that they stay."""

    def __init__(self) -> None:
        super().__init__()
        files = {"clip_name1": "clip_l.safetensors", "clip_name2": "clip_g.safetensors"}
        self.clip = self.add("DualCLIPLoader", **files, type="sdxl", device="default")(0)
        self.clip_vision = self.add("CLIPVisionLoader", clip_name="clip_vision_h.safetensors")(0)
        self.model = self.add("TinySdxl")(0)

    def sample(self, name: str, model: Link, positive: Link, negative: Link, batch: int = 1) -> None:
        """One step of a sampler; its latents are observed."""
        latent = self.add("EmptyLatentImage", width=64, height=64, batch_size=batch)(0)
        settings = {"seed": 5, "steps": 1, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
        sampled = self.add(
            "KSampler", model=model, positive=positive, negative=negative, latent_image=latent, **settings
        )
        self.observe(name, sampled(0))


@dataclass(frozen=True)
class Indexed:
    """A library after the first run of the indexer on it.

    ids: by file name. 0.png to 2.png have PROMPTS, same.png the first of them, none.png has no prompt.
    """

    comfyui: ComfyUI
    library: Any
    folder: Path
    job: Job
    ids: dict[str, int]


@pytest.fixture(scope="session")
def indexed(comfyui: ComfyUI, tiny_weights: Path) -> Iterator[Indexed]:
    """Indexed with a connected CLIP and CLIP Vision, conditionings kept, and no BGE."""
    from toolkit_core.library import Library

    folder = comfyui.output / "pictures"
    for number, prompt in enumerate(PROMPTS):
        size = (320, 240) if number % 2 else (256, 384)
        save_comfyui_png(folder / f"{number}.png", number, prompt, NEGATIVE if number else "", size)
    save_comfyui_png(folder / "same.png", 100, PROMPTS[0])
    save_comfyui_png(folder / "none.png", 101, None)
    graph = ModelGraph()
    report = graph.add(
        "DiffusionToolkitIndexer",
        folder="output/pictures",
        recursive=True,
        clip=graph.clip,
        clip_vision=graph.clip_vision,
        keep_conditioning=True,
    )
    graph.add("ObserveClipOptions", clip=graph.clip, after=report(0), name="options")
    job = comfyui.run(graph)
    with Library.open(comfyui.home, weights=[comfyui.base / "models"]) as library:
        yield Indexed(comfyui, library, folder, job, ids_by_name(library))


def ids_by_name(library: Any) -> dict[str, int]:
    with library.database.transaction() as connection:
        return {Path(path).name: id for id, path in connection.execute("SELECT id, path FROM image_file")}


@pytest.fixture(scope="session")
def make_graph() -> type[ModelGraph]:
    return ModelGraph


@pytest.fixture(scope="session")
def plain_graph() -> type[Graph]:
    return Graph


@pytest.fixture(scope="session")
def save_png() -> Callable[..., None]:
    return save_comfyui_png
