"""MJPEG out of RTP (RFC 2435): the pictures' headers are not sent, so they are made again here."""

from __future__ import annotations

__all__ = ["AccessUnit", "Depacketizer"]

from edgeagent_devices._rtp import AccessUnit
from edgeagent_devices._rtp import Depacketizer as Base

_HEADER = 8
_MAX_SIZE = 8_000_000
_RESTART = range(64, 128)  # types with a restart marker header
_OWN_TABLES = 128  # from this Q on, quantization tables come with the picture
_TABLE = 64

# Quantizers of ITU-T T.81, tables K.1 and K.2, row by row.
_LUMA = bytes.fromhex(
    "100b0a101828333d0c0c0e131a3a3c370e0d1018283945380e11161d3357503e12162538446d674d182337405168715c31404e5767797865485c5f6270646763"
)
_CHROMA = bytes.fromhex("1112182f6363636312151a4263636363181a3863636363632f42636363636363" + "63" * 32)
_ZIGZAG = sorted(range(_TABLE), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8))
# Huffman tables of T.81, annex K.3: DC and AC of luma and chroma, each behind its class and number.
_HUFFMAN = bytes.fromhex(
    "0000010501010101010100000000000000000102030405060708090a0b0100030101010101010101010000000000000102030405060708090a0b1000"
    "02010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25"
    "262728292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a9293949596979899"
    "9aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa110002"
    "0102040403040705040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f1171819"
    "1a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798"
    "999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
)


class Depacketizer(Base):
    """Makes pictures of one MJPEG stream's packets; `AccessUnit.nals` is one JPEG."""

    def __init__(self, payload_type: int, *, markers_lie: bool = False) -> None:
        super().__init__(payload_type, markers_lie=markers_lie)
        self._tables: dict[int, bytes] = {}
        self._head = b""

    def _add(self, payload: bytes, marker: bool) -> None:
        if len(payload) < _HEADER:
            self._damaged = True
            return
        offset, kind, q = int.from_bytes(payload[1:4], "big"), payload[4], payload[5]
        width, height = payload[6] * 8, payload[7] * 8
        position, interval = _HEADER, 0
        if kind in _RESTART:
            interval = int.from_bytes(payload[position : position + 2], "big")
            position += 4
        if offset == 0:
            if q >= _OWN_TABLES:
                position = self._read_tables(payload, position, q)
            tables = self._tables.get(q, b"") if q >= _OWN_TABLES else _tables_of(q)
            if kind & 0x3F > 1 or not (width and height and tables and q):
                self._damaged = True
                return
            self._head = _head(width, height, kind & 0x3F, tables, interval)
            self._fragments, self._size = [], 0
        elif offset != self._size:
            self._damaged = True
            return
        self._fragments.append(payload[position:])
        self._size += len(payload) - position
        if self._size > _MAX_SIZE:
            self._fragments, self._damaged = [], True
        elif marker:
            scan = b"".join(self._fragments)
            self._fragments = []
            end = b"" if scan.endswith(b"\xff\xd9") else b"\xff\xd9"
            self._keep(self._head + scan + end, counted=True)

    def _read_tables(self, payload: bytes, position: int, q: int) -> int:
        """Take the quantization table header; it may be empty where the tables of this Q came before (section 3.1.8)."""
        precision, size = payload[position + 1 : position + 2], int.from_bytes(payload[position + 2 : position + 4], "big")
        end = position + 4 + size
        if size in (_TABLE, 2 * _TABLE) and end <= len(payload) and not precision[0] & 3:
            tables = payload[position + 4 : end]
            self._tables[q] = tables if size > _TABLE else tables * 2
        elif size or q == 255:  # 255: the tables may change with each picture
            self._tables.pop(q, None)
        return end

    def _part_of(self, payload: bytes) -> str:
        return "start" if not any(payload[1:4]) else "rest"

    def _has_picture(self) -> bool:
        return bool(self._nals)

    def _is_keyframe(self, nals: list[bytes]) -> bool:
        return True


def _tables_of(q: int) -> bytes:
    """Both quantization tables for a Q from 1 to 99, in zigzag order (section 4.2)."""
    q = min(max(q, 1), 99)
    scale = 5000 // q if q < 50 else 200 - 2 * q
    return bytes(min(max((table[i] * scale + 50) // 100, 1), 255) for table in (_LUMA, _CHROMA) for i in _ZIGZAG)


def _head(width: int, height: int, kind: int, tables: bytes, interval: int) -> bytes:
    """Everything before the scan's data; type 0 is 4:2:2, type 1 is 4:2:0 (section 4.1)."""
    sampling = 0x22 if kind else 0x21
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return b"".join(
        [
            b"\xff\xd8",
            _segment(0xDB, b"\0" + tables[:_TABLE] + b"\1" + tables[_TABLE:]),
            _segment(0xDD, interval.to_bytes(2, "big")) if interval else b"",
            _segment(0xC0, b"\x08" + size + bytes((3, 1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1))),
            _segment(0xC4, _HUFFMAN),
            _segment(0xDA, bytes((3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0))),
        ]
    )


def _segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(data) + 2).to_bytes(2, "big") + data
