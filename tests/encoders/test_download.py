"""Downloads against a small local server that speaks the hub's resolve protocol.

It stands in for huggingface.co, which tests cannot reach; huggingface_hub itself asks it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from toolkit_core.encoders.download import SOURCES, download
from toolkit_core.errors import EncoderError

WEIGHTS = bytes(range(256)) * 8192
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Hub:
    """What the server does, and what it was asked."""

    endpoint: str = ""
    stop_after: int | None = None
    damaged: bool = False
    ranges: list[str | None] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _content(self) -> bytes | None:
        _, _, rest = self.path.partition("/resolve/main/")
        name = rest or self.path.partition(f"/resolve/{COMMIT}/")[2]
        if not name:
            return None
        return WEIGHTS if name.endswith((".onnx", ".safetensors")) else f"the file {name}".encode()

    def _head(self, content: bytes, first: int) -> None:
        large = len(content) == len(WEIGHTS)
        etag = hashlib.sha256(content).hexdigest() if large else _git_hash(content)
        self.send_response(206 if first else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()

    def do_HEAD(self) -> None:
        content = self._content()
        if content is None:
            self.send_error(404)
        else:
            self._head(content, 0)

    def do_GET(self) -> None:
        content = self._content()
        if content is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        if len(content) == len(WEIGHTS):
            self.hub.ranges.append(wanted)
        first = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        self._head(content, first)
        if self.hub.damaged and len(content) == len(WEIGHTS):
            content = content[:-1] + b"!"
        end = len(content) if self.hub.stop_after is None else self.hub.stop_after
        self.wfile.write(content[first : max(first, end)])
        if end < len(content):
            self.close_connection = True


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield hub
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


_CODE = """
import json, sys
from pathlib import Path
from toolkit_core.encoders.download import download
from toolkit_core.errors import EncoderError
seen = []
try:
    paths = download(sys.argv[2:], Path(sys.argv[1]), lambda p: seen.append((p.done, p.total, p.item)))
    print(json.dumps({"paths": [str(path) for path in paths], "seen": seen}))
except EncoderError as error:
    print(json.dumps({"error": str(error)}))
"""


def _download(endpoint: str, folder: Path, *spaces: str) -> dict:
    """In a process of its own: huggingface_hub reads its endpoint when it is imported."""
    ran = subprocess.run(
        [sys.executable, "-c", _CODE, str(folder), *spaces],
        env={
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(folder.parent / "home"),
            "NO_PROXY": "127.0.0.1",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_fresh_download_is_whole_reports_progress_and_is_not_repeated(hub: Hub, tmp_path: Path) -> None:
    target = tmp_path / "weights"
    answer = _download(hub.endpoint, target, "bge", "clip_h")
    bge, clip_h = (
        target / "bge-large-en-v1.5",
        target / "CLIP-ViT-H-14-laion2B-s32B-b79K" / "open_clip_model.safetensors",
    )
    assert answer["paths"] == [str(bge), str(clip_h)]
    assert clip_h.read_bytes() == WEIGHTS
    for name in SOURCES["bge"].files:
        assert (bge / name).is_file()
    assert any(
        done == total == len(WEIGHTS) and item.endswith("open_clip_model.safetensors")
        for done, total, item in answer["seen"]
    )
    asked = len(hub.ranges)
    assert _download(hub.endpoint, target, "bge", "clip_h")["paths"] == answer["paths"]
    assert len(hub.ranges) == asked


def test_an_interrupted_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.stop_after = len(WEIGHTS) // 2
    answer = _download(hub.endpoint, tmp_path / "weights", "clip_h")
    assert "goes on where it stopped" in answer["error"]
    assert not list(tmp_path.rglob("*.safetensors"))
    hub.stop_after = None
    hub.ranges.clear()
    (path,) = _download(hub.endpoint, tmp_path / "weights", "clip_h")["paths"]
    assert Path(path).read_bytes() == WEIGHTS
    assert hub.ranges == [f"bytes={len(WEIGHTS) // 2}-"]


def test_a_damaged_download_is_deleted_and_reported(hub: Hub, tmp_path: Path) -> None:
    hub.damaged = True
    answer = _download(hub.endpoint, tmp_path / "weights", "clip_h")
    assert "damaged" in answer["error"]
    assert not list(tmp_path.rglob("*.safetensors"))
    hub.damaged = False
    (path,) = _download(hub.endpoint, tmp_path / "weights", "clip_h")["paths"]
    assert Path(path).read_bytes() == WEIGHTS


def test_a_download_that_fills_the_disk_goes_on_when_there_is_room(hub: Hub, small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(1)
    answer = _download(hub.endpoint, disk / "weights", "clip_h")
    assert "No space left on device" in answer["error"]
    assert "the free space of" in answer["error"]
    assert not list(disk.rglob("*.safetensors"))
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    hub.ranges.clear()
    (path,) = _download(hub.endpoint, disk / "weights", "clip_h")["paths"]
    assert Path(path).read_bytes() == WEIGHTS
    assert hub.ranges[0] is not None


def test_no_connection_is_a_clear_error(tmp_path: Path) -> None:
    answer = _download("http://127.0.0.1:9", tmp_path / "weights", "clip_h")
    assert "could not be downloaded" in answer["error"]
    assert "connection" in answer["error"]


@pytest.mark.parametrize("space", ["clip_l", "clip_g"])
def test_the_text_encoders_come_with_comfyui(space: str, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=f"{space} can't be downloaded.*ComfyUI.*--weights"):
        download([space], tmp_path)
