"""Which text an annotator is shown."""

from __future__ import annotations

from pathlib import Path

from support.annotation_run import begin

from potstill.annotation import AnnotationSession


def test_one_annotator_is_shown_the_texts_in_the_order_they_were_chosen_and_a_second_one_others(tmp_path: Path) -> None:
    session = AnnotationSession(begin(tmp_path))
    try:
        chosen = [each.id for each in session.store.requests()]
        for id in chosen[:3]:
            text = session.state("ann").text
            assert text is not None
            assert text.id == id
            session.label("ann", id, "money", 1.0)
        shown = [session.state(name).text for name in ("ann", "bob")]
        assert all(text is not None and text.id in chosen[3:] for text in shown)
        assert len({text.id for text in shown if text is not None}) == 2
    finally:
        session.close()
