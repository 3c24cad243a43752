"""Short stand-ins for unit vectors, whose products are never less than the cosines.

A sketch has the coordinates of a vector along a few orthonormal axes, and the length of the rest. By Cauchy and Schwarz
the rests' own product is at most the product of their lengths, so that sketches rule out pairs and never lose one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

WIDTHS = (32, 64, 128, 256)
# Of all pairs, those that sketches may fail to rule out. Comparing one by its vectors, which have to be fetched, costs
# as much as several thousand products of sketches.
LOOSE_PAIRS = 2e-5
ROUNDING = 1e-6  # of a product in float32


def principal_axes(sample: Vectors, threshold: float) -> Vectors:
    """Axes for sketches that are as short as will do to rule out cosines below a threshold.

    sample: unit vectors, float32, shape (n, width); a quarter finds the axes, and the others say what they are worth.
    Returns float32, shape (width, m): orthonormal columns, at most n / 4 of them.
    """
    unseen = np.delete(sample, np.s_[::4], axis=0)
    axes = np.linalg.svd(sample[::4], full_matrices=False)[2].T
    near = np.count_nonzero(unseen @ unseen.T >= threshold)
    for width in WIDTHS:
        sketches = sketch(unseen, axes[:, : width - 1])
        if np.count_nonzero(sketches @ sketches.T >= threshold) - near <= LOOSE_PAIRS * len(unseen) ** 2:
            return np.ascontiguousarray(axes[:, : width - 1])
    return np.ascontiguousarray(axes)


def sketch(units: Vectors, axes: Vectors) -> Vectors:
    """The sketches of vectors of length 1 or 0, float32, shape (n, axes + 1)."""
    inside = units @ axes
    rest = np.sum(units * units, axis=1) - np.sum(inside * inside, axis=1)
    # Rounded up, so that a product of sketches stays above the cosine.
    return np.column_stack([inside, np.sqrt(np.maximum(rest, 0) + ROUNDING)])
