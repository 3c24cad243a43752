"""Is this encoder the one that made a library's vectors?

An encoder's probe is its vectors for fixed texts or pictures. Two probes agree when no row's cosine similarity is
below MIN_COSINE and no row's norm differs by more than MAX_NORM_RATIO. Measured by `benchmarks/probe_threshold.py` at
full size with seeded noise for weights (see there what that can't show), 1 - the lowest cosine:

    the probe in float32 against …       CLIP-L    CLIP-G    CLIP-H    BGE
    one input at a time                  1e-13     2e-13     2e-14     1e-12     same weights: must agree
    the file in float32, not float16     3.7e-7    3.2e-7    1.2e-7    7.8e-6
    computed in float16                  6.3e-7    1.1e-6    1.7e-6    3.0e-6
    computed in bfloat16                 5.9e-5    8.1e-5    1.1e-4    5.9e-4
    the file in bfloat16                 1.9e-5    2.2e-5    8.6e-6    4.5e-4
    the file in float8_e4m3              1.9e-2    7.9e-2    8.8e-3    7.0e-2    other weights: must not
    noise of 0.5% on all weights         1.9e-4    2.0e-4    7.1e-5    4.1e-3
    noise of 1%                          7.6e-4    8.1e-4    2.8e-4    1.6e-2
    noise of 2%                          3.0e-3    3.2e-3    1.1e-3    5.5e-2
    LoRA of 1% (the least of four)       3.0e-4    3.1e-4    2.7e-5    3.1e-3
    LoRA of 2%                           1.2e-3    1.2e-3    1.1e-4    1.2e-2
    LoRA of 5%                           7.5e-3    7.9e-3    6.7e-4    7.0e-2

The four LoRAs are of rank 4 and 16, on the attention or on all projections; a percentage is of each matrix's norm.
2e-4 lies between the same CLIP weights in bfloat16 and a 1% LoRA on a text encoder or a 1% fine-tune of any. What
passes: changes of half a percent, and a LoRA of up to 2% on the picture encoder, which bfloat16 alone moves as far.
What fails though the model is the same: BGE in bfloat16, so a library keeps to one BGE graph (float32 and
float16 agree). The norms of the same weights differ by 1.0005 at most (bfloat16, CLIP-G).
"""

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

MIN_COSINE = 0.9998
MAX_NORM_RATIO = 1.005


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
