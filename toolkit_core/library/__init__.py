"""The library: the one object that everything else talks to.

`opened` is what opening it gives, `filling` what fills it and keeps it equal to the disk, `using` all that is done with
the images that are in it.
"""

from .filling import Filling
from .opened import locate_weights
from .using import Using

__all__ = ["Library", "locate_weights"]


class Library(Filling, Using):
    """Images, their generation parameters and their embeddings.

        with Library.open(weights=["~/ComfyUI/models"]) as library:
            library.index(["~/ComfyUI/output"])
            for hit in library.search("a lighthouse in a storm", top_k=10):
                print(hit.score, hit.path, hit.prompt)

    Safe to use from several threads; several processes may open the same library.
    """
