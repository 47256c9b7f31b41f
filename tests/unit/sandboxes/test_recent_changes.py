from __future__ import annotations

from session_service.sandboxes.recent_changes import RecentChanges


def test_pieces_keep_their_numbers_and_the_oldest_go() -> None:
    recent = RecentChanges(max_bytes=10)
    for piece in (b"aaaa", b"bbbb", b"cccc"):
        recent.append(piece)
    assert recent.head == 3
    assert [recent.at(number) for number in range(3)] == [None, b"bbbb", b"cccc"]


def test_a_piece_that_is_larger_than_all_together_may_be_is_there_until_the_next() -> None:
    recent = RecentChanges(max_bytes=10)
    recent.append(b"a")
    recent.append(b"b" * 11)
    assert (recent.at(0), recent.at(1)) == (None, b"b" * 11)
    recent.append(b"c")
    assert (recent.at(1), recent.at(2)) == (None, b"c")
