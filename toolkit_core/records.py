"""The small frozen records that travel between the rooms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from .spaces import IndexKind


@dataclass(frozen=True)
class Lora:
    """A LoRA as it was applied. A strength is None where the metadata does not give it."""

    name: str
    strength_model: float | None = None
    strength_clip: float | None = None


@dataclass(frozen=True)
class GenerationParameters:
    """What an image was made with, as its metadata says it. What is not known is None, never a guess.

    prompt: the distinct texts of the final sampler's positive conditioning, joined by newlines.
    negative_prompt: likewise; "" where an empty text was wired in, None where there was no text at all.
    seed: exact, up to 2**64 - 1.
    vae: the VAE's file, where it is not the checkpoint's own.
    generator: "ComfyUI", "AUTOMATIC1111", "NovelAI", "InvokeAI", "Fooocus", …
    """

    generator: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    model: str | None = None
    vae: str | None = None
    loras: tuple[Lora, ...] = ()
    sampler: str | None = None
    scheduler: str | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    guidance: float | None = None
    seed: int | None = None
    denoise: float | None = None


@dataclass(frozen=True)
class MetadataText:
    """One text of a file's metadata, as the file has it.

    source: where it lies: "png" (a text chunk), "exif", "xmp", "comment" (JPEG's or GIF's), "stealth" (bits of the
        alpha channel), "sidecar" (a file beside it).
    name: the PNG keyword, the EXIF tag's name, or the sidecar's suffix.
    """

    source: str
    name: str
    text: str


@dataclass(frozen=True)
class MetadataReading:
    """What a file says of how it was made, and how that was found out.

    found_by: the reader and where it read, in words for a person: "ComfyUI graph in PNG text 'prompt'".
    rules: by field of GenerationParameters, the rule that found it: "node 6 CLIPTextEncode, text". A field that is
        missing here was found as `found_by` says.
    """

    parameters: GenerationParameters
    found_by: str | None = None
    rules: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageRecord:
    """One image of a library, with everything that is stored about it but its vectors."""

    id: int
    path: str
    file_size: int | None
    modified_at: datetime | None
    width: int | None
    height: int | None
    parameters: GenerationParameters
    favorite: bool
    rating: int | None
    tags: tuple[str, ...]
    error: str | None
    indexed_at: datetime
    embeddings: tuple[str, ...]
    """Names of the embeddings that are stored for it (see `toolkit_core.spaces`)."""
    missing_since: datetime | None = None
    """When its file was first not there any more; None where it is there."""


@dataclass(frozen=True)
class MissingImage:
    """An image whose file is not there any more. is_curated: it is a favourite, or has a rating or tags."""

    id: int
    path: str
    file_size: int | None
    missing_since: datetime
    is_curated: bool


@dataclass(frozen=True)
class FailedImage:
    """An image that could not be opened or decoded when it was last read. error: why, in a sentence."""

    id: int
    path: str
    error: str
    read_at: datetime


@dataclass(frozen=True)
class Pruned:
    """What was removed from a library: images, and prompts that no other image has.

    left: images that were not, because a process that indexes may be about to find their files under another name.
    """

    images: int = 0
    texts: int = 0
    left: int = 0


@dataclass(frozen=True)
class SearchHit:
    """One found image.

    scores: its cosine similarity to each part of the query, by the part's name. score: their weighted mean; 0 where
    nothing was given to be similar to.
    """

    id: int
    path: str
    score: float
    scores: Mapping[str, float]
    prompt: str | None
    modified_at: datetime | None = None
    favorite: bool = False
    rating: int | None = None


Certainty: TypeAlias = Literal["exact", "index", "budget"]


class SearchResults(list[SearchHit]):
    """What a search found, best first.

    certainty: "exact": every image that could be among them was compared. "index": no image that the vector indexes
    did not name can be among them, so they are as right as the indexes are. "budget": the search ended before that was
    shown.
    next_page: what `Library.search` takes as `page` to go on behind them; None where they end.
    end: the same also where they end, for what may come later; None where nothing was found, and of diverse results.
    passed: how many images come before them. Of a page that is not there, how many there are in all.
    weights: how much each part of the query counted, by its name; without signs they sum to 1. Empty for a list.
    """

    def __init__(
        self,
        hits: Iterable[SearchHit] = (),
        *,
        certainty: Certainty = "exact",
        next_page: str | None = None,
        end: str | None = None,
        passed: int = 0,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(hits)
        self.certainty: Certainty = certainty
        self.next_page = next_page
        self.end = end
        self.passed = passed
        self.weights = dict(weights or {})


@dataclass(frozen=True)
class DuplicateGroup:
    """Images of which one would do: `ids[0]`, the favourite, the best rated or else the oldest of them.

    paths: in the order of `ids`.
    kind: "identical" (the same file) or "similar" (much the same picture; of identical files only one is in here).
    similarity: the lowest cosine similarity of any of them to the first; 1 for identical files.
    """

    ids: tuple[int, ...]
    paths: tuple[str, ...]
    kind: Literal["identical", "similar"]
    similarity: float


@dataclass(frozen=True)
class Progress:
    """How far a long piece of work has come. `total` is None while it is not known.

    stages: the share of the time so far that each part of the work was at it, from 0 to 1, the slowest first.
    """

    stage: str
    done: int
    total: int | None
    item: str | None = None
    stages: Mapping[str, float] = field(default_factory=dict)

    def busy(self) -> str:
        """How busy each part of the work was, in one line; those that hardly were are left out."""
        return " ".join(f"{stage} {share:.0%}" for stage, share in self.stages.items() if share >= 0.01)


@dataclass(frozen=True)
class FailedFile:
    path: str
    error: str


@dataclass(frozen=True)
class SealedSpace:
    """What sealing did to a space, or to "pairs": how many rows came into the index, and whether it was built anew."""

    space: str
    rows: int
    anew: bool
    seconds: float


@dataclass(frozen=True)
class IndexReport:
    """What one run of the indexer did.

    embedded: vectors written in this run, by space.
    pending: vectors still missing in the whole library after it, by space.
    skipped: spaces left pending because there are no weights, with where they were looked for.
    refused: spaces left pending because their weights cannot be used, with the reason.
    missing: images in the indexed folders whose files are not there any more.
    put_off: files that were not read, see `overwrite` of `Library.index`.
    kept_conditionings: whole conditionings kept in this run.
    sealed: the spaces whose vectors came into an index after it.
    stages: the share of the time that each stage was at work ("scan", "read", "match", "encode", "write"), the slowest
    first. They work at the same time, so the first one sets the pace.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    moved: int = 0
    failed: tuple[FailedFile, ...] = ()
    missing: int = 0
    put_off: tuple[str, ...] = ()
    embedded: Mapping[str, int] = field(default_factory=dict)
    pending: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    kept_conditionings: int = 0
    sealed: tuple[SealedSpace, ...] = ()
    stages: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def summary(self) -> str:
        """What became of the files, in one line."""
        missing = f", {self.missing} missing" if self.missing else ""
        return (
            f"{self.new} new, {self.changed} changed, {self.moved} moved, {self.unchanged} unchanged, "
            f"{len(self.failed)} failed{missing} in {self.seconds:.1f} s"
        )

    def pace(self) -> str | None:
        """Which stage was the slowest, in one line; None where nothing was read or embedded."""
        if not self.stages or not (self.new or self.changed or any(self.embedded.values())):
            return None
        stage, share = next(iter(self.stages.items()))
        return f"The slowest stage was {STAGES[stage]}, at work {share:.0%} of the time."


STAGES = {
    "scan": "looking for files",
    "read": "reading and decoding files",
    "match": "comparing files with the library",
    "encode": "the encoders",
    "write": "writing to the database",
}


@dataclass(frozen=True)
class RereadReport:
    """What one run of `reread` did. Counts are of images.

    from_kept: read from the metadata that the library keeps. from_files: from their files, where it kept none.
    changed: those of both that say something else now. current: left out, because this reader read them before.
    unread: neither kept nor to be had from the file that was indexed, with the reason.
    embedding: the vectors that were made for the prompts that are new.
    """

    from_kept: int
    from_files: int
    changed: int
    current: int
    unread: tuple[FailedFile, ...]
    embedding: IndexReport
    seconds: float

    def summary(self) -> str:
        """What became of the images, in one line."""
        return (
            f"{self.from_kept + self.from_files} read again ({self.from_kept} from kept metadata, {self.from_files} "
            f"from files), {self.changed} changed, {self.current} current, {len(self.unread)} unread in "
            f"{self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class UnfoundFolder:
    """Images of another program's database that were not found on this machine, by a folder they have in common.

    folder: as it is written there. unfound: of its `images`. looked_for: the path here that one of them was looked for
    at; None where its path is none that this machine can have.
    """

    folder: str
    unfound: int
    images: int
    looked_for: str | None


@dataclass(frozen=True)
class ImportReport:
    """What one import from a DiffusionToolkit database did. Counts are of images.

    source: the database, in words. images: that it has. found: their files are here. unfound: those whose files are
    not. unsupported: those that are no pictures this program reads, by the suffixes of their files.
    curated: changed by what is said of them there: favorites, rated and tagged, which they were not before.
    tagger_tags: tags that taggers made and that were left out.
    indexing: what indexing their files did; `pending`, `skipped` and `refused` are those of its end.
    """

    source: str
    images: int
    found: int
    unfound: tuple[UnfoundFolder, ...]
    unsupported: Mapping[str, int]
    curated: int
    favorites: int
    rated: int
    tagged: int
    tagger_tags: int
    indexing: IndexReport
    seconds: float

    def summary(self) -> str:
        """What became of the images, in one line."""
        return (
            f"{self.images:,} images in {self.source}: {self.found:,} found here, "
            f"{sum(folder.unfound for folder in self.unfound):,} not found, {sum(self.unsupported.values()):,} no "
            f"pictures, in {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class ExportReport:
    """What one export wrote. `target` is its real path.

    files, bytes: of all files together. without_embeddings: images that have none of the embeddings asked for.
    missing: images that lack an embedding, by its name.
    """

    target: str
    format: str
    files: int
    images: int
    without_embeddings: int
    missing: Mapping[str, int]
    bytes: int
    seconds: float

    def summary(self) -> str:
        """What was written, in one line."""
        return (
            f"{self.images} images in {self.files} files, {self.bytes / 1e6:.1f} MB, {self.without_embeddings} of them "
            f"without embeddings, in {self.seconds:.1f} s to {self.target}"
        )


@dataclass(frozen=True)
class EncoderRecord:
    """The encoder that made a space's vectors: its name, and its probe (see `encoders.identity`)."""

    space: str
    name: str
    created_at: datetime


@dataclass(frozen=True)
class SpaceIndex:
    """How the vectors of a space are found.

    index: the kind of index that the sealed vectors have, None where all are compared. open: vectors not in it yet,
    which are compared. bytes: of the vectors with their index on disk.
    """

    index: IndexKind | None
    sealed: int
    open: int
    bytes: int


@dataclass(frozen=True)
class Reembedding:
    """A space that is being made again. encoder: the name of the new weights. done: vectors that are made already."""

    encoder: str
    done: int


@dataclass(frozen=True)
class LibraryStatus:
    """Counts of a whole library. `pending` and `indexes` are by space; `encoders` has None for a space never written.

    missing: images whose files are not there any more.
    read_by_older: images that `reread` would read, because the readers became better since.
    reembedding: the spaces that an unfinished `reindex` makes again.
    """

    images: int
    failed: int
    missing: int
    prompts: int
    read_by_older: int
    pending: Mapping[str, int]
    encoders: Mapping[str, EncoderRecord | None]
    indexes: Mapping[str, SpaceIndex]
    reembedding: Mapping[str, Reembedding]
    database: Mapping[str, Any]


def to_json(record: Any) -> dict[str, Any]:
    """A record as plain values for `json.dumps(..., default=str)`."""
    return asdict(record)
