"""Files as a hospital may have them, and what reading gives for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from siloquy.silo_node.reading.document import Document, RejectedInput
from siloquy.silo_node.reading.walk import read


def pdf_of(pages: Sequence[Sequence[str]], title: str = "", trailer: bytes = b"") -> bytes:
    """A PDF whose pages have these lines in Helvetica."""
    kids = " ".join(f"{5 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        f"<< /Title ({title}) >>".encode(),
    ]
    for i, lines in enumerate(pages):
        shown = " T* ".join(f"({line}) Tj" for line in lines)
        stream = f"BT /F1 12 Tf 14 TL 72 720 Td {shown} ET"
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            b"/Resources << /Font << /F1 3 0 R >> >> /Contents %d 0 R >>" % (6 + 2 * i)
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream".encode())
    return _with_table(objects, trailer)


def _with_table(objects: Sequence[bytes], trailer: bytes) -> bytes:
    file, table = b"%PDF-1.4\n", b"0000000000 65535 f \n"
    for number, body in enumerate(objects, 1):
        table += b"%010d 00000 n \n" % len(file)
        file += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    size = len(objects) + 1
    head = b"trailer\n<< /Size %d /Root 1 0 R /Info 4 0 R %s >>" % (size, trailer)
    return b"%sxref\n0 %d\n%s%s\nstartxref\n%d\n%%%%EOF\n" % (file, size, table, head, len(file))


def lines_of(*records: object) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def one(path: Path, data: bytes) -> Document:
    """The only document in a file with these bytes."""
    path.write_bytes(data)
    (item,) = read(path)
    assert isinstance(item, Document), item
    return item


def reasons(path: Path, data: bytes) -> list[str]:
    path.write_bytes(data)
    return [item.reason for item in read(path) if isinstance(item, RejectedInput)]


def ids(path: Path, only_source: str | None = None) -> list[str]:
    return [item.id for item in read(path, only_source) if isinstance(item, Document)]


def rejected(path: Path) -> dict[str, str]:
    return {item.source: item.reason for item in read(path) if isinstance(item, RejectedInput)}
