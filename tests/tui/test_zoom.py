"""The part of a run that its plot shows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from t5panel.tui.widgets.zoom import SHORTEST, Zoom, followed, panned, revealed, whole, zoomed

RUN = whole(1, 1001)


def test_zooming_keeps_the_step_under_the_pointer_in_its_place() -> None:
    view = Zoom(200, 600, live=False)

    near = zoomed(view, RUN, 0.5, 300)

    assert near == Zoom(250, 450, live=False)


def test_without_a_pointer_the_live_end_or_the_middle_stays() -> None:
    assert zoomed(RUN, RUN, 0.5, None) == Zoom(501, 1001, live=True)
    assert zoomed(Zoom(200, 600, live=False), RUN, 0.5, None) == Zoom(300, 500, live=False)


def test_as_much_as_there_is_is_no_zoom() -> None:
    assert zoomed(Zoom(200, 800, live=False), RUN, 2.0, None) is None


def test_a_view_of_the_live_end_moves_on_with_it_and_any_other_stays() -> None:
    later = whole(1, 1101)

    assert followed(Zoom(901, 1001, live=True), later) == Zoom(1001, 1101, live=True)
    assert followed(Zoom(801, 901, live=False), later) == Zoom(801, 901, live=False)
    assert panned(Zoom(801, 901, live=False), RUN, 5.0) == Zoom(901, 1001, live=True)


@given(st.floats(1, 900), st.floats(SHORTEST, 900), st.floats(0.1, 10), st.floats(-9, 9), st.floats(1, 1001))
def test_a_view_never_leaves_the_run(low: float, length: float, factor: float, share: float, at: float) -> None:
    view = panned(Zoom(low, low + length, live=False), RUN, 0.0)

    for found in (zoomed(view, RUN, factor, at), panned(view, RUN, share), revealed(view, RUN, at)):
        if found is not None:
            assert RUN.low <= found.low
            assert found.high <= RUN.high + 1e-6
            assert found.length >= SHORTEST - 1e-6
    assert revealed(view, RUN, at).low - 1e-6 <= at <= revealed(view, RUN, at).high + 1e-6
