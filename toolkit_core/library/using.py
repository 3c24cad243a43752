"""What is done with the images that a library has: they are found, looked at, curated, turned into conditioning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..database import curation, images, revision, vectors
from ..errors import SearchError
from ..records import DuplicateGroup, ExportReport, ImageRecord, Progress, SearchHit, SearchResults
from ..space_encoders import EncoderSource
from ..spaces import EMBEDDINGS, SPACES
from .opened import OpenedLibrary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..conditioning import Conditioning, ConditioningEncoder
    from ..search import Sort


class Using(OpenedLibrary):
    """The half of `Library` that finds images, and says, makes and exports things of them."""

    def search(
        self,
        text: str | None = None,
        *,
        image: Path | str | bytes | NDArray[np.uint8] | None = None,
        image_id: int | None = None,
        vectors: Mapping[str, NDArray[np.float32]] | None = None,
        weights: Mapping[str, float] | None = None,
        top_k: int = 20,
        threshold: float | None = None,
        thresholds: Mapping[str, float] | None = None,
        filter: str | None = None,
        diversity: float = 0.0,
        sort: Sort = "relevance",
        page: str | int | None = None,
        encoders: Mapping[str, EncoderSource] | None = None,
    ) -> SearchResults:
        """The images most like what is given, best first; with nothing but a filter, the newest of its images first.

        text: searched in the prompts by meaning (BGE), or by CLIP where a weight says so; a blank one is none.
        image: a file, its bytes, or RGB pixels, uint8, of shape (height, width, 3); of several pictures,
        (n, height, width, 3), the mean vector is searched.
        image_id: an image of this library, which is among its own results. vectors: ready ones by embedding name.
        weights: how much each embedding counts, by its name in `toolkit_core.spaces.EMBEDDINGS`; `clip_h_text` looks
        for the text in the pictures themselves, if CLIP-H's weights have a text tower. They are scaled so that they sum
        to 1 without their signs; a negative one asks for images unlike. Only images that have every weighted embedding
        are ranked.
        threshold: the lowest score, which is the weighted mean of cosine similarities. thresholds: the lowest
        similarity by embedding. filter: see docs/filters.md.
        diversity: from 0 to 1, how much the images should differ from each other instead of being like what is given.
        sort: the found images by "relevance", "date" or "rating". page: `next_page` of the results to go on behind;
        images that are added meanwhile neither move nor repeat what comes. Or its number: page 3 is counted anew from
        the best image on, as far as image 10,000.
        encoders: used in this call in place of the library's own, as in `index`.
        Raises SearchError (FilterError), ImageNotFound, PathNotFound, ImageError, EncoderError (WeightsMissing,
        EncoderMismatch, TextTowerMissing), DatabaseError.
        """
        from ..search import Query, search

        query = Query(
            None if isinstance(text, str) and not text.strip() else text,
            image,
            image_id,
            vectors or {},
            weights or {},
            top_k,
            threshold,
            thresholds or {},
            filter,
            diversity,
            sort,
            page,
        )
        return search(self.database, self._encoders.connected(encoders or {}), query)

    def find(self, filter: str) -> list[int]:
        """The ids of all images that meet a filter (see docs/filters.md), in order; of every image, if it is blank.

        As in a search, images whose files are missing are left out. Raises FilterError, DatabaseError.
        """
        from ..database import listing
        from ..search import condition_of

        condition = condition_of(filter)
        with self.database.transaction() as connection:
            return listing.ids(connection, condition).tolist()

    def neighbours(self, id: int, top_k: int = 20) -> list[SearchHit]:
        """The images most like one by picture, best first, without itself; 9,999 at most.

        Raises SearchError where it has no picture embedding, ImageNotFound, DatabaseError.
        """
        from ..search import MOST_RESULTS

        if not 1 <= top_k < MOST_RESULTS:  # The image itself is the first that the search finds.
            raise SearchError(f"top_k is {top_k}; ask for 1 to {MOST_RESULTS - 1} images.")
        hits = self.search(image_id=id, weights={"clip_h": 1}, top_k=top_k + 1)
        return [hit for hit in hits if hit.id != id][:top_k]

    def duplicates(
        self, threshold: float = 0.98, progress: Callable[[Progress], None] | None = None
    ) -> list[DuplicateGroup]:
        """The groups of identical files, then those of pictures that are as good as the same.

        threshold: the lowest CLIP-H cosine similarity of a picture to the one that stands for its group, above 0 and
        up to 1. See `search.duplicates` for how groups are made, and how long that takes.
        An exception out of `progress` stops it. Raises SearchError, DatabaseError.
        """
        from ..search.duplicates import find_duplicates

        return find_duplicates(self.database, threshold, progress or (lambda _: None))

    def image(self, id: int) -> ImageRecord:
        """Everything stored about an image but its vectors. Raises ImageNotFound."""
        with self.database.transaction() as connection:
            return images.get(connection, id)

    def embeddings(self, id: int) -> dict[str, NDArray[np.float32]]:
        """The stored embeddings of an image by name, each of shape (width,). Raises ImageNotFound."""
        with self.database.transaction() as connection:
            return images.embeddings(connection, id)

    def image_vectors(self, ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """The stored CLIP-H vectors of some images by id, each of shape (1024,); those without one are left out."""
        with self.database.transaction() as connection:
            return vectors.read_of(connection, SPACES["clip_h"], ids)

    def conditioning(
        self,
        image_id: int,
        embedding_type: str = "auto",
        *,
        clip: ConditioningEncoder | None = None,
        conditioning: Conditioning | None = None,
        encoders: Mapping[str, EncoderSource] | None = None,
    ) -> tuple[Conditioning, Conditioning]:
        """The positive and the negative conditioning of an image, with its stored pooled vectors in them.

        embedding_type: "clip_l", "clip_g" or "auto", the vector that becomes `pooled_output`; "image" leaves that
        alone and adds the picture's CLIP-H vector as `unclip_conditioning`.
        Made from the first there is of: the stored prompts by `clip`; a kept conditioning; copies of `conditioning`.
        encoders: those of `clip` by space, so that vectors of other weights than its own are refused.
        Raises ImageNotFound, ConditioningError, EncoderMismatch, DatabaseError.
        """
        from ..stored_conditioning import load

        own = self._encoders.connected(encoders or {})
        return load(self.database, own, self.image(image_id), embedding_type, clip, conditioning)

    def export(
        self,
        target: Path | str,
        *,
        ids: Iterable[int] | None = None,
        filter: str | None = None,
        format: str | None = None,
        embeddings: Sequence[str] = tuple(EMBEDDINGS),
        roots: Sequence[Path] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> ExportReport:
        """Write images and their embeddings to files that other programs read, all as they are at one moment.

        target: a file that ends in .safetensors or .parquet; a file that ends in .json, for one image; or a folder, for
        one JSON file an image. It is replaced when the export is whole, and left as it was by one that fails.
        ids: these images in this order, also where their files are missing; None: all whose files are there, by id.
        filter: only those that meet it; see docs/filters.md.
        format: "json", "safetensors" or "parquet", where the target's name does not say it.
        embeddings: names out of `toolkit_core.spaces.EMBEDDINGS`. roots: folders; the target must lie below one.
        An exception out of `progress` stops the export. What the files hold is said in `toolkit_core.export`.
        Raises ExportError, FilterError, ImageNotFound, PathNotFound, FolderNotAllowed, DatabaseError.
        """
        from ..export import Selection, allowed_target, export
        from ..search import condition_of

        real = allowed_target(target, roots, self.settings.home / "settings.toml")
        return export(self.database, real, Selection(ids, condition_of(filter)), format, embeddings, progress)

    def curate(
        self,
        ids: Sequence[int],
        *,
        favorite: bool | None = None,
        rating: int | None = None,
        clear_rating: bool = False,
        add_tags: Sequence[str] = (),
        remove_tags: Sequence[str] = (),
    ) -> int:
        """Say of images that they are favourites, how good they are, and what they are about.

        rating: from 0 to 10; clear_rating takes it away. What is not given stays as it is. An image's tags are sorted,
        each once; they are trimmed and up to 100 characters long. Case matters in them, but for those to remove: "Sea"
        removes "sea", as the filter tag:Sea finds it.
        Returns how many images were changed. Raises CurationError, ImageNotFound (nothing is changed then),
        DatabaseError.
        """
        change = curation.Curation(favorite, rating, clear_rating, add_tags, remove_tags)
        with self.database.transaction() as connection:
            changed = curation.curate(connection, ids, change)
            if changed:
                revision.bump(connection)
        return changed

    def tags(self) -> dict[str, int]:
        """How many images have each tag, the most used first."""
        with self.database.transaction() as connection:
            return curation.tag_counts(connection)

    def revision(self) -> str:
        """A text that is another one after every change to what can be found. One query of one row."""
        with self.database.transaction() as connection:
            return revision.read(connection)
