from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from hwsim.flow.report import format_cell, pareto_front

_COORDINATE = st.integers(0, 5).map(float)


@given(st.lists(st.tuples(_COORDINATE, _COORDINATE), max_size=12))
def test_front_is_what_no_point_beats(points: list[tuple[float, float]]) -> None:
    front = [points[index] for index in pareto_front(points)]

    def beaten(point: tuple[float, float]) -> bool:
        return any(q != point and q[0] <= point[0] and q[1] <= point[1] for q in points)

    assert set(front) == {point for point in points if not beaten(point)}
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in itertools.pairwise(front))


def test_missing_value_is_a_dash() -> None:
    assert format_cell(None, ".2f") == "-"
    assert format_cell(1234567, ",d") == "1,234,567"
