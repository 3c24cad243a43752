"""Is this encoder the one that made a library's vectors? (measured table: to be filled)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PROBE_TEXTS = (
    "a photograph of a red fox sleeping in fresh snow",
    "masterpiece, best quality, 1girl, silver hair, cyberpunk city at night, neon lights, rain, detailed background",
    "oil painting of an old fisherman mending nets by the harbour, warm morning light, visible brush strokes, "
    "muted colours, in the style of the Hague School, a lighthouse and gulls far away behind him",
    "worst quality, blurry, watermark, extra fingers",
)

MIN_COSINE = 0.999
MAX_NORM_RATIO = 1.02


@dataclass(frozen=True)
class ProbeAgreement:
    """How well two probes agree.

    cosine: the lowest cosine similarity of a stored row and the fresh row of the same input.
    norm_ratio: the largest factor, at least 1, between the L2 norms of two such rows.
    same: whether both are within their limits, so that the vectors may be mixed.
    """

    cosine: float
    norm_ratio: float
    same: bool


def probe_images() -> npt.NDArray[np.uint8]:
    """Three synthetic RGB pictures, uint8, shape (3, 224, 224, 3). Integer arithmetic: the same on every machine."""
    y, x = np.mgrid[0:224, 0:224].astype(np.int64)
    waves = np.stack([x * 255 // 223, y * 255 // 223, (x * x + y * y) // 97 % 256], axis=-1)
    radius = (x - 90) ** 2 + (y - 120) ** 2
    disc = np.stack([200 - radius // 300, 40 + (radius < 3600) * 180, 90 + (x // 28 + y // 28) % 2 * 120], axis=-1)
    blocks = (x // 16 * 73856093) ^ (y // 16 * 19349663)
    mosaic = np.stack([blocks % 251, blocks // 7 % 253, blocks // 31 % 255], axis=-1)
    return np.clip(np.stack([waves, disc, mosaic]), 0, 255).astype(np.uint8)


def compare_probes(stored: npt.NDArray[np.float32], fresh: npt.NDArray[np.float32]) -> ProbeAgreement:
    """Compare two probes of shape (n, width). Probes of different shapes, or with a zero or NaN row, never agree."""
    if stored.shape != fresh.shape or stored.ndim != 2 or stored.size == 0:
        return ProbeAgreement(cosine=0.0, norm_ratio=float("inf"), same=False)
    a, b = stored.astype(np.float64), fresh.astype(np.float64)
    norm_a, norm_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    if not (np.isfinite(norm_a).all() and np.isfinite(norm_b).all() and norm_a.all() and norm_b.all()):
        return ProbeAgreement(cosine=0.0, norm_ratio=float("inf"), same=False)
    cosine = float(((a * b).sum(axis=1) / (norm_a * norm_b)).min())
    norm_ratio = float(np.maximum(norm_a / norm_b, norm_b / norm_a).max())
    return ProbeAgreement(cosine, norm_ratio, same=cosine >= MIN_COSINE and norm_ratio <= MAX_NORM_RATIO)
