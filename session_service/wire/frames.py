"""WebSocket frames as a server sends them (RFC 6455 §5.2): final, unmasked, without extensions."""

from __future__ import annotations

import struct

_FIN_TEXT = 0x81
_LARGEST_7_BIT = 125
_LARGEST_16_BIT = 0xFFFF
_header_16 = struct.Struct("!BBH").pack
_header_64 = struct.Struct("!BBQ").pack


def text_frame(payload: bytes) -> bytes:
    """One whole text message in one frame; ``payload`` is UTF-8. The length takes 7, 16 or 64 bits as §5.2 says."""
    size_bytes = len(payload)
    if size_bytes <= _LARGEST_7_BIT:
        return bytes((_FIN_TEXT, size_bytes)) + payload
    if size_bytes <= _LARGEST_16_BIT:
        return _header_16(_FIN_TEXT, 126, size_bytes) + payload
    return _header_64(_FIN_TEXT, 127, size_bytes) + payload
