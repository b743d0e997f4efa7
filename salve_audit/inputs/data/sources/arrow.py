"""Arrow files record batch by record batch, by position; not mapped, as a file that is cut off kills who maps it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from salve_audit.inputs.reasons import summarise_error

MAX_BATCH_BYTES = 1024**3  # of one record batch; `datasets` writes a thousand rows into one
MAX_PREFIX_BYTES = 256 * 1024**2  # of the schema and dictionaries
MAX_BATCHES = 10_000_000
RANDOM_ACCESS = b"ARROW1"
CONTINUES, SCHEMA, DICTIONARY, RECORD_BATCH = 0xFFFFFFFF, 1, 2, 3
TOO_LARGE = f"a record batch of more than {MAX_BATCH_BYTES // 1024**2} MiB; save the data set with a smaller batch size"


class Span(NamedTuple):
    """Position of a message in its file."""

    kind: int
    offset: int
    size: int


@dataclass(frozen=True)
class ArrowFile:
    """An Arrow file in stream or file format, of which each record batch can be read.

    Attributes:
        path: the file.
        schema: of its table.
        n_batches: number of record batches.
        prefix: of a stream: the messages before its first record batch.
        spans: of a stream: its record batches.
    """

    path: Path
    schema: Any
    n_batches: int
    prefix: bytes = b""
    spans: tuple[Span, ...] = ()

    @classmethod
    def open(cls, path: Path) -> ArrowFile:
        """Finds the record batches; reads none.

        Raises:
            OSError: the file cannot be read.
            ValueError: damaged.
        """
        import pyarrow as pa

        try:
            with path.open("rb") as stream:
                if stream.read(6) == RANDOM_ACCESS:
                    with pa.OSFile(str(path)) as file:
                        reader = pa.ipc.open_file(file)
                        return cls(path, reader.schema, reader.num_record_batches)
                messages = _list_messages(stream)
                spans = tuple(message for message in messages if message.kind == RECORD_BATCH)
                end = spans[0].offset if spans else messages[-1].offset + messages[-1].size
                prefix = _read(stream, Span(SCHEMA, 0, end), MAX_PREFIX_BYTES)
            schema = pa.ipc.open_stream(prefix).schema
            if any(message.kind == DICTIONARY and message.offset >= end for message in messages):
                raise ValueError("dictionaries that change between record batches")
            return cls(path, schema, len(spans), prefix, spans)
        except (pa.ArrowException, MemoryError) as error:
            raise ValueError(f"damaged ({summarise_error(error)})") from error

    def read(self, number: int, columns: Sequence[str]) -> Any:
        """Some columns of a record batch, validated: offsets of a hostile file could point anywhere.

        Raises:
            OSError: the file cannot be read.
            ValueError: damaged, or too large.
        """
        import pyarrow as pa

        try:
            batch = self._read_stream(number) if self.spans else self._read_file(number)
            chosen = batch.select(list(columns))
            chosen.validate(full=True)
        except (pa.ArrowException, MemoryError, KeyError, IndexError) as error:
            raise ValueError(f"damaged ({summarise_error(error)})") from error
        if chosen.get_total_buffer_size() > MAX_BATCH_BYTES:
            raise ValueError(TOO_LARGE)
        return chosen

    def _read_file(self, number: int) -> Any:
        import pyarrow as pa

        with pa.OSFile(str(self.path)) as file:
            return pa.ipc.open_file(file).get_batch(number)

    def _read_stream(self, number: int) -> Any:
        import pyarrow as pa

        with self.path.open("rb") as stream:
            content = self.prefix + _read(stream, self.spans[number], MAX_BATCH_BYTES)
        return pa.ipc.open_stream(content).read_next_batch()


def _read(stream: BinaryIO, span: Span, most: int) -> bytes:
    if span.size > most:
        raise ValueError(TOO_LARGE)
    stream.seek(span.offset)
    content = stream.read(span.size)
    if len(content) < span.size:
        raise ValueError("damaged (the file ends inside a record batch)")
    return content


def _list_messages(stream: BinaryIO) -> list[Span]:
    """The messages of a stream, by their headers alone; bodies are skipped."""
    messages: list[Span] = []
    n_bytes, position = stream.seek(0, 2), 0
    while len(messages) < MAX_BATCHES:
        stream.seek(position)
        start = stream.read(8)
        if len(start) < 8 or start == struct.pack("<II", CONTINUES, 0):
            break
        mark, n_metadata = struct.unpack("<II", start)
        n_start = 8
        if mark != CONTINUES:  # as written before Arrow 0.15
            n_metadata, n_start = mark, 4
            stream.seek(position + 4)
        if n_metadata == 0:
            break
        if position + n_start + n_metadata > n_bytes:
            raise ValueError("damaged (the file ends inside a message)")
        kind, n_body = _read_header(stream.read(n_metadata))
        messages.append(Span(kind, position, n_start + n_metadata + n_body))
        position += messages[-1].size
        if position > n_bytes:
            raise ValueError("damaged (the file ends inside a message)")
    if not messages or messages[0].kind != SCHEMA:
        raise ValueError("damaged (no schema where a stream begins)")
    return messages


def _read_header(metadata: bytes) -> tuple[int, int]:
    """FileKind and length of the body: the second and fourth field of a flatbuffer (Arrow's Message.fbs)."""
    try:
        (root,) = struct.unpack_from("<I", metadata)
        (back,) = struct.unpack_from("<i", metadata, root)
        table = root - back
        (size,) = struct.unpack_from("<H", metadata, table)
        fields = [struct.unpack_from("<H", metadata, table + 4 + 2 * n)[0] if 6 + 2 * n <= size else 0 for n in (1, 3)]
        kind = metadata[root + fields[0]] if fields[0] else 0
        n_body = struct.unpack_from("<q", metadata, root + fields[1])[0] if fields[1] else 0
    except (struct.error, IndexError) as error:
        raise ValueError("damaged (a message that cannot be read)") from error
    if n_body < 0:
        raise ValueError("damaged (a message of negative length)")
    return kind, n_body
