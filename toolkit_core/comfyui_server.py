"""What a running ComfyUI says of its nodes."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from .errors import ComfyUIError

LARGEST_ANSWER = 256 * 2**20
SECONDS = 60.0
"""A ComfyUI with many packs takes some seconds to list their nodes."""


def fetch_node_definitions(url: str) -> Mapping[str, Any]:
    """The definitions of a ComfyUI's nodes by class, from `/object_info` at its address, as http://127.0.0.1:8188.

    Raises ComfyUIError where there is no ComfyUI.
    """
    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ComfyUIError(f"{url!r} is no address of a ComfyUI. It looks like http://127.0.0.1:8188")
    address = urllib.parse.urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/object_info", "", ""))
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as response:
            answer = response.read(LARGEST_ANSWER + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ComfyUIError(f"No ComfyUI answers at {address} ({reason}). Start it, or leave --comfyui out.") from error
    try:
        definitions = json.loads(answer) if len(answer) <= LARGEST_ANSWER else None
    except (ValueError, RecursionError):
        definitions = None
    if not isinstance(definitions, dict):
        raise ComfyUIError(f"{address} does not list the nodes of a ComfyUI.")
    return definitions
