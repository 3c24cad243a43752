"""Kept metadata: the texts of files as they were found, packed, each distinct set of texts once.

A row's data is one byte of format, then a zstd frame of the serialised texts. Texts of one series of pictures differ in
a seed and a few words, so a row is packed against a recent whole row (zstd takes that as its dictionary) where this
halves it. Measured on the 47 ComfyUI files of a labelled corpus, 9.4 KB each, with 20 variants of each that differ in
their seeds and every second one in a dozen words: 264 bytes a row at level 9 in 0.07 ms, against 2,227 whole; zlib with
the same dictionary 337, and not below the whole where texts pass its window of 32 KB, as workflows often do. Alone, a
file's texts take 1,929 bytes (zstd 9, 0.26 ms), 1,933 (zlib 9), 1,873 (zstd 19, 2.5 ms), 1,822 (LZMA, 2.6 ms).
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Collection, Sequence
from typing import NamedTuple

import zstandard

from ..errors import DatabaseError
from ..records import MetadataText
from .database import Connection

LARGEST_KEPT = 4 * 2**20
"""Bytes of a file's texts above which they are not kept; such a file is read again itself."""

_FORMAT = b"\x01"
_LEVEL = 9
_BASES_TRIED = 8


def write(connection: Connection, texts: Sequence[Sequence[MetadataText] | None]) -> list[int | None]:
    """Keep the texts of some files. Returns the ids of their rows; None where there are none given, or too large ones.

    Call it in a transaction of its own, for one writer waits here for another's end. Rows that no image refers to,
    because of a kill after it, are found again by the next run, or pruned. So look for `present` before you refer to
    them.
    """
    keys: list[bytes | None] = []
    raw: dict[bytes, bytes] = {}
    for item in texts:
        data = None if item is None else to_bytes(item)
        key = None if data is None else hashlib.sha256(data).digest()
        keys.append(key)
        if key is not None and data is not None:
            raw[key] = data
    ids = _ids(connection, raw)
    if ids.keys() != raw.keys():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(current_schema() || ' raw metadata'))")
        ids = _ids(connection, raw)
        _add(connection, {key: data for key, data in raw.items() if key not in ids}, ids)
    return [None if key is None else ids[key] for key in keys]


def present(connection: Connection, ids: Collection[int | None]) -> set[int | None]:
    """Those of some rows that are still there; they stay so until the end of a transaction that looked texts up."""
    given = [id for id in ids if id is not None]
    return {id for (id,) in connection.execute("SELECT id FROM raw_metadata WHERE id = ANY(%s)", [given])}


def read(connection: Connection, ids: Collection[int]) -> dict[int, tuple[MetadataText, ...]]:
    """The texts of some rows by id. Raises DatabaseError where one was written by a newer version, or is damaged."""
    query = "SELECT id, base_id, data FROM raw_metadata WHERE id = ANY(%s)"
    rows = connection.execute(query, [list(ids)], binary=True).fetchall()
    base_ids = list({base_id for _, base_id, _ in rows if base_id is not None})
    bases = {id: _unpack(id, data) for id, _, data in connection.execute(query, [base_ids], binary=True)}
    return {id: from_bytes(_unpack(id, data, bases.get(base_id, b""))) for id, base_id, data in rows}


def to_bytes(texts: Sequence[MetadataText]) -> bytes | None:
    """Texts as bytes: a line of JSON that lists sources, names and lengths, then the texts themselves in UTF-8.

    Lone surrogates and NUL characters are kept. None where they are larger than LARGEST_KEPT.
    """
    if sum(len(text.text) for text in texts) > LARGEST_KEPT:
        return None
    bodies = [text.text.encode("utf-8", "surrogatepass") for text in texts]
    heads = [[text.source, text.name, len(body)] for text, body in zip(texts, bodies, strict=True)]
    data = b"".join([json.dumps(heads, separators=(",", ":")).encode(), b"\n", *bodies])
    return data if len(data) <= LARGEST_KEPT else None


def from_bytes(data: bytes) -> tuple[MetadataText, ...]:
    """The texts of `to_bytes`."""
    head, _, bodies = data.partition(b"\n")
    texts: list[MetadataText] = []
    start = 0
    for source, name, length in json.loads(head):
        texts.append(MetadataText(source, name, bodies[start : start + length].decode("utf-8", "surrogatepass")))
        start += length
    return tuple(texts)


class _Base(NamedTuple):
    """A whole row that others may be packed against."""

    id: int
    compressor: zstandard.ZstdCompressor


def _ids(connection: Connection, keys: Collection[bytes]) -> dict[bytes, int]:
    rows = connection.execute("SELECT sha256, id FROM raw_metadata WHERE sha256 = ANY(%s)", [list(keys)], binary=True)
    return {bytes(key): id for key, id in rows}


def _add(connection: Connection, raw: dict[bytes, bytes], ids: dict[bytes, int]) -> None:
    """Insert rows, adding their ids to `ids`. The caller holds the lock, so that nobody else inserts."""
    whole = zstandard.ZstdCompressor(level=_LEVEL)
    rows = connection.execute(
        "SELECT id, data FROM raw_metadata WHERE base_id IS NULL ORDER BY id DESC LIMIT %s", [_BASES_TRIED], binary=True
    )
    bases = deque((_base(id, _unpack(id, data)) for id, data in rows), maxlen=_BASES_TRIED)
    for key, data in raw.items():
        base_id, packed = None, whole.compress(data)
        against = min(((len(p := b.compressor.compress(data)), b.id, p) for b in bases), default=None)
        if against is not None and against[0] <= len(packed) // 2:
            _, base_id, packed = against
        row = connection.execute(
            "INSERT INTO raw_metadata (sha256, base_id, data) VALUES (%s, %s, %s) RETURNING id",
            [key, base_id, _FORMAT + packed],
        ).fetchone()
        assert row is not None
        ids[key] = row[0]
        if base_id is None:
            bases.appendleft(_base(row[0], data))


def _base(id: int, data: bytes) -> _Base:
    return _Base(id, zstandard.ZstdCompressor(level=_LEVEL, dict_data=_dictionary(data)))


def _dictionary(data: bytes) -> zstandard.ZstdCompressionDict:
    dictionary = zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    dictionary.precompute_compress(level=_LEVEL)
    return dictionary


def _unpack(id: int, data: bytes, base: bytes = b"") -> bytes:
    if data[:1] != _FORMAT:
        raise DatabaseError(f"The kept metadata {id} was written by a newer version of this program. Update it.")
    dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if base else None
    try:
        return zstandard.ZstdDecompressor(dict_data=dictionary).decompress(data[1:], max_output_size=LARGEST_KEPT)
    except zstandard.ZstdError as error:
        raise DatabaseError(f"The kept metadata {id} is damaged ({error}). Index its images again.") from error
