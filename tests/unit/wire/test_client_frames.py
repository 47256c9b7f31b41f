"""Reading client frames (RFC 6455 §5): what is complete, what is a violation, what is held in between."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.wire.client_frames import (
    ClientFrame,
    ClientFrameReader,
    PeerClose,
    Ping,
    Pong,
    TextMessage,
    Violation,
    close_frame,
    pong_frame,
)
from session_service.wire.close_codes import CloseCode

LIMIT = 64 * 1024
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    header = bytes(((0x80 if final else 0) | opcode,))
    length, bit = len(payload), 0x80 if mask else 0
    if length < 126:
        header += bytes((bit | length,))
    elif length < 65536:
        header += bytes((bit | 126,)) + length.to_bytes(2, "big")
    else:
        header += bytes((bit | 127,)) + length.to_bytes(8, "big")
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) if mask else payload
    return header + mask + masked


def read(*chunks: bytes) -> list[ClientFrame]:
    reader = ClientFrameReader(LIMIT)
    return [one for chunk in chunks for one in reader.feed(chunk)]


def violation(*chunks: bytes) -> int:
    last = read(*chunks)[-1]
    assert isinstance(last, Violation), last
    return last.code


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
def test_a_text_of_any_allowed_size_arrives_whole(size: int) -> None:
    assert read(frame(TEXT, b"x" * size)) == [TextMessage(b"x" * size)]


def test_several_frames_in_one_chunk_come_in_order() -> None:
    chunk = frame(TEXT, b"a") + frame(PING, b"p") + frame(PONG) + frame(TEXT, b"b") + frame(CLOSE, b"\x03\xe8")
    assert read(chunk) == [TextMessage(b"a"), Ping(b"p"), Pong(), TextMessage(b"b"), PeerClose(1000)]


def test_fragments_become_one_message_with_control_frames_between() -> None:
    chunks = (
        frame(TEXT, "€".encode()[:1], final=False),
        frame(PING, b"now"),
        frame(CONTINUATION, "€".encode()[1:2], final=False),
        frame(CONTINUATION, "€".encode()[2:]),
        frame(TEXT, b"next"),
    )
    assert read(*chunks) == [Ping(b"now"), TextMessage("€".encode()), TextMessage(b"next")]


@pytest.mark.parametrize(
    ("name", "chunk", "code"),
    [
        ("unmasked", frame(TEXT, b"x", mask=b""), CloseCode.PROTOCOL_ERROR),
        ("unmasked close", frame(CLOSE, b"\x03\xe8", mask=b""), CloseCode.PROTOCOL_ERROR),
        ("reserved bit 1: compressed", b"\xc1" + frame(TEXT, b"x")[1:], CloseCode.PROTOCOL_ERROR),
        ("reserved bit 2", b"\xa1" + frame(TEXT, b"x")[1:], CloseCode.PROTOCOL_ERROR),
        ("reserved bit 3", b"\x91" + frame(TEXT, b"x")[1:], CloseCode.PROTOCOL_ERROR),
        ("reserved data opcode", frame(0x3), CloseCode.PROTOCOL_ERROR),
        ("reserved control opcode", frame(0xB), CloseCode.PROTOCOL_ERROR),
        ("fragmented ping", frame(PING, final=False), CloseCode.PROTOCOL_ERROR),
        ("long ping", frame(PING, b"x" * 126), CloseCode.PROTOCOL_ERROR),
        ("continuation of nothing", frame(CONTINUATION, b"x"), CloseCode.PROTOCOL_ERROR),
        ("text within a text", frame(TEXT, b"x", final=False) + frame(TEXT, b"y"), CloseCode.PROTOCOL_ERROR),
        ("close with one byte", frame(CLOSE, b"\x03"), CloseCode.PROTOCOL_ERROR),
        ("close with 1005", frame(CLOSE, (1005).to_bytes(2, "big")), CloseCode.PROTOCOL_ERROR),
        ("close with 999", frame(CLOSE, (999).to_bytes(2, "big")), CloseCode.PROTOCOL_ERROR),
        ("close reason not UTF-8", frame(CLOSE, b"\x03\xe8\xff"), CloseCode.INVALID_TEXT),
        ("binary", frame(BINARY, b"x"), CloseCode.UNSUPPORTED),
        ("binary, first fragment", frame(BINARY, b"x", final=False), CloseCode.UNSUPPORTED),
        ("not UTF-8", frame(TEXT, b"\xff"), CloseCode.INVALID_TEXT),
        ("UTF-8 cut off", frame(TEXT, "€".encode()[:2]), CloseCode.INVALID_TEXT),
        ("surrogate", frame(TEXT, b"\xed\xa0\x80"), CloseCode.INVALID_TEXT),
        ("one byte too long", frame(TEXT, b"x" * (LIMIT + 1)), CloseCode.MESSAGE_TOO_BIG),
        ("length of 2^63", b"\x81\xff" + (2**63).to_bytes(8, "big"), CloseCode.MESSAGE_TOO_BIG),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n", CloseCode.PROTOCOL_ERROR),
    ],
)
def test_violations_have_their_close_code(name: str, chunk: bytes, code: CloseCode) -> None:
    assert violation(chunk) == code, name


def test_too_long_is_known_from_the_header_alone() -> None:
    assert violation(b"\x81\xff" + (LIMIT + 1).to_bytes(8, "big")) == CloseCode.MESSAGE_TOO_BIG


def test_fragments_are_limited_together() -> None:
    half = LIMIT // 2
    fitting = read(frame(TEXT, b"x" * half, final=False), frame(CONTINUATION, b"x" * half))
    assert fitting == [TextMessage(b"x" * LIMIT)]
    code = violation(frame(TEXT, b"x" * half, final=False), frame(CONTINUATION, b"x" * (half + 1)))
    assert code == CloseCode.MESSAGE_TOO_BIG


def test_empty_fragments_do_not_go_on_for_ever() -> None:
    reader = ClientFrameReader(max_message_bytes=100)
    reader.feed(frame(TEXT, final=False))
    frames = [one for _ in range(100) for one in reader.feed(frame(CONTINUATION, final=False))]
    assert [one.code for one in frames if isinstance(one, Violation)] == [CloseCode.MESSAGE_TOO_BIG]


def test_what_came_before_a_violation_counts_and_nothing_after_it() -> None:
    reader = ClientFrameReader(LIMIT)
    frames = reader.feed(frame(TEXT, b"good") + frame(TEXT, b"bad", mask=b"") + frame(TEXT, b"late"))
    assert frames[0] == TextMessage(b"good")
    assert isinstance(frames[1], Violation)
    assert len(frames) == 2
    assert reader.feed(frame(TEXT, b"later")) == []


_messages = st.lists(
    st.tuples(
        st.binary(max_size=300).map(lambda raw: raw.decode("latin-1").encode()), st.integers(1, 4), st.booleans()
    ),
    max_size=6,
)


@given(_messages, st.lists(st.integers(0, 2000)), st.binary(min_size=4, max_size=4))
def test_any_cut_of_the_bytes_gives_the_same_messages(
    messages: list[tuple[bytes, int, bool]], cuts: list[int], mask: bytes
) -> None:
    stream = b""
    expected: list[ClientFrame] = []
    for payload, pieces, ping in messages:
        step = max(1, -(-len(payload) // pieces))
        parts = [payload[start : start + step] for start in range(0, max(1, len(payload)), step)]
        for index, part in enumerate(parts):
            final = index == len(parts) - 1
            stream += frame(TEXT if index == 0 else CONTINUATION, part, final=final, mask=mask)
            if ping and not final:
                stream += frame(PING, b"p", mask=mask)
                expected.append(Ping(b"p"))
        expected.append(TextMessage(payload))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert read(*(stream[start:end] for start, end in itertools.pairwise(edges))) == expected
    assert read(*(stream[index : index + 1] for index in range(len(stream)))) == expected


@given(st.lists(st.binary(max_size=400), max_size=8))
def test_no_bytes_break_the_reader_and_it_holds_a_bounded_amount(chunks: list[bytes]) -> None:
    reader = ClientFrameReader(200)
    for chunk in chunks:
        for one in reader.feed(chunk):
            assert not isinstance(one, TextMessage) or len(one.payload) <= 200
    held = len(reader._buffer or b"") + len(reader._message or b"")
    assert held <= 200 + 14 + 400


def test_our_own_control_frames() -> None:
    assert pong_frame(b"abc") == b"\x8a\x03abc"
    assert close_frame(CloseCode.SERVICE_RESTART) == b"\x88\x02" + (1012).to_bytes(2, "big")
    assert close_frame(CloseCode.NORMAL, "bye") == b"\x88\x05\x03\xe8bye"
    long = close_frame(CloseCode.NORMAL, "€" * 100)
    assert len(long) <= 2 + 125
    long[4:].decode()
