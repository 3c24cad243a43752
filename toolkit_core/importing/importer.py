"""One import: page by page, index the files that are here, and add what is said of them there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PureWindowsPath

from ..database import Database, curation, revision
from ..database.curation import Addition
from ..errors import PathNotFound
from ..indexing.scan import SUFFIXES, real_path
from ..indexing.stages import batches
from ..records import ImportReport, IndexReport, Progress
from .image import ImportedImage
from .paths import PathMap, Unfound, is_file
from .source import BEFORE_ALL_IDS, Source

# So many that the indexer's stages are seldom short of files, and so few that what is said of them soon comes along.
IMAGES_A_PAGE = 5_000


class Importer:
    """Everything one import needs and counts. Use it once: `Importer(…).run()`.

    What is committed stays: a run that ends at any moment is taken up by the next one, which finds what is indexed.
    """

    def __init__(
        self,
        database: Database,
        source: Source,
        paths: PathMap,
        index: Callable[[Sequence[str], bool], IndexReport],
        progress: Callable[[Progress], None],
    ) -> None:
        """index: brings the library up to date with files, which may overwrite or not; see `Library.index`."""
        self._database = database
        self._source = source
        self._paths = paths
        self._index = index
        self._progress = progress
        self._unfound = Unfound()
        self._unsupported: Counter[str] = Counter()
        self._added: Counter[str] = Counter()
        self._found = 0
        self._left_out = 0
        self._indexing = IndexReport()
        # What is said of files in the place of others, which may turn up on a later page.
        self._put_off: dict[str, Addition] = {}

    def run(self) -> ImportReport:
        """Import all. Raises ImportSourceError, DatabaseError."""
        started = time.monotonic()
        total = self._source.count()
        done, after = 0, BEFORE_ALL_IDS
        while (page := self._source.page(after, IMAGES_A_PAGE)).images:
            self._progress(Progress("import", done, total))
            self._bring(self._additions(page.images), overwrite=False)
            self._left_out += page.left_out
            done += len(page.images)
            after = page.images[-1].id
        for paths in batches(list(self._put_off), IMAGES_A_PAGE):
            self._bring({path: self._put_off[path] for path in paths}, overwrite=True)
        self._progress(Progress("import", done, done))
        return ImportReport(
            source=self._source.describe(),
            images=done,
            found=self._found,
            unfound=self._unfound.folders(),
            unsupported=dict(self._unsupported.most_common()),
            curated=self._added["images"],
            favorites=self._added["favorites"],
            rated=self._added["rated"],
            tagged=self._added["tagged"],
            tagger_tags=self._left_out,
            indexing=self._indexing,
            seconds=time.monotonic() - started,
        )

    def _bring(self, additions: Mapping[str, Addition], *, overwrite: bool) -> None:
        """Index files, and add what is said of them, by path."""
        if not additions:
            return
        report = self._indexed(list(additions), overwrite)
        self._indexing = _joined(self._indexing, report)
        self._put_off.update({path: additions[path] for path in report.put_off})
        with self._database.transaction() as connection:
            added = curation.add(connection, {path: additions[path] for path in additions.keys() - report.put_off})
            if added.images:
                revision.bump(connection)
        self._added.update(asdict(added))

    def _additions(self, images: Sequence[ImportedImage]) -> dict[str, Addition]:
        """What is said of the pictures that are here, by their real paths."""
        additions: dict[str, Addition] = {}
        for image in images:
            suffix = PureWindowsPath(image.path).suffix.lower()
            if suffix not in SUFFIXES:
                self._unsupported[suffix] += 1
                continue
            local = self._paths.local(image.path)
            is_here = is_file(local)
            self._unfound.note(image.path, local, found=is_here)
            if local is None or not is_here:
                continue
            self._found += 1
            path, addition = str(real_path(local)), image.addition()
            # Two of their paths may lead to one file.
            additions[path] = additions[path].joined(addition) if path in additions else addition
        return additions

    def _indexed(self, files: Sequence[str], overwrite: bool) -> IndexReport:
        """Index files, without those that go while that is done."""
        while True:
            try:
                return self._index(files, overwrite)
            except PathNotFound:
                still = [file for file in files if Path(file).exists()]
                if len(still) == len(files):
                    raise
                files = still


def _joined(first: IndexReport, then: IndexReport) -> IndexReport:
    """What two runs did, one after the other, and how the library stands after the later one."""
    embedded = Counter(first.embedded)
    embedded.update(then.embedded)
    return replace(
        then,
        new=first.new + then.new,
        changed=first.changed + then.changed,
        unchanged=first.unchanged + then.unchanged,
        moved=first.moved + then.moved,
        failed=(*first.failed, *then.failed),
        missing=first.missing + then.missing,
        embedded=dict(embedded),
        sealed=(*first.sealed, *then.sealed),
        stages={},
        seconds=first.seconds + then.seconds,
    )
