"""Titles that several tracks share are told with what to do about them."""

from __future__ import annotations

from orchestrator.matrix.titles import SharedTitles


def seen(*titles: str) -> SharedTitles:
    shared = SharedTitles()
    for title in titles:
        shared.see(title)
    return shared


def test_tracks_of_one_title_are_counted_in_any_case_of_letters():
    shared = seen("Still Water", "still water", "Harbour", "Harbour", "Harbour", "Alone")
    assert shared.notes(of_prompts=True) == [
        "5 tracks share 2 titles, such as 'still water'; give each prompt a title of its own"
    ]
    (note,) = shared.notes(of_prompts=False)
    assert note.endswith("add words to 'title_words'")


def test_tracks_without_a_title_share_none():
    assert seen("", "", "Alone").notes(of_prompts=True) == []
