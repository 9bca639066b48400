"""One self-contained HTML page of a set of results: the table, the Pareto plots, and where each figure comes from."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwsim.files import replacing

Row = Mapping[str, Any]

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 100rem; padding: 0 1rem; color: #1c1c1c; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { background: #f4f4f4; } p.note { color: #555; } td.bad { color: #b00020; font-weight: bold; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem 1.5rem; overflow-wrap: anywhere; }
"""


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of points that no other beats in both coordinates (less is better), by the first coordinate.

    Examples
    --------
    >>> pareto_front([(1.0, 5.0), (2.0, 6.0), (3.0, 1.0)])
    [0, 2]
    """
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: points[i]):
        if not front or points[index][1] < points[front[-1]][1]:
            front.append(index)
    return front


def format_cell(value: Any, spec: str) -> str:
    """Return a value as the tables show it; None is shown as a dash."""
    return "-" if value is None else format(value, spec)


def write_report(
    path: Path, title: str, columns: Sequence[tuple[str, str, str]], rows: Sequence[Row], notes: Sequence[str],
    provenance: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write the page aside and rename it into place.

    Parameters
    ----------
    path : Path
        Target file.
    columns : sequence of (key, heading, format spec)
        Columns of the table.
    rows : sequence of mapping
        Rows with ``name``, ``float_ppl``, ``datapath_ppl``, ``energy_pj``, ``bits_per_weight`` and the columns' keys.
    notes : sequence of str
        Sentences under the table.
    provenance : mapping
        What the figures depend on: hashes, seeds, versions.
    """
    head = "".join(f"<th>{html.escape(heading)}</th>" for _, heading, _ in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(format_cell(row[key], spec))}</td>" for key, _, spec in columns) + "</tr>"
        for row in rows
    )
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        + "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)
        + _pareto_plot(rows)
        + "<h2>Where the figures come from</h2><dl>"
        + "".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(str(value))}</dd>" for key, value in provenance.items())
        + "</dl></body></html>"
    )
    with replacing(path) as aside:
        aside.write_text(page, encoding="utf-8")


def _pareto_plot(rows: Sequence[Row]) -> str:
    """Return the plot as HTML with the plotting library inlined."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    axes = (("energy_pj", 1e-9, "energy in mJ"), ("bits_per_weight", 1.0, "stored bits per weight"))
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, subplot_titles=["perplexity against energy", "perplexity against bits"]
    )
    for column, (key, factor, label) in enumerate(axes, start=1):
        points = [(row[key] * factor, row["datapath_ppl"]) for row in rows]
        names = [row["name"] for row in rows]
        front = pareto_front(points)
        figure.add_trace(
            Scatter(
                x=[points[i][0] for i in front], y=[points[i][1] for i in front], mode="lines",
                line={"color": "#999", "dash": "dot", "shape": "hv"}, hoverinfo="skip",
            ), row=1, col=column,
        )  # fmt: skip
        figure.add_trace(
            Scatter(
                x=[x for x, _ in points], y=[y for _, y in points], mode="markers+text", text=names,
                textposition="top center", marker={"size": 11, "color": "#1f5fa8"},
                hovertemplate=f"%{{text}}<br>{label}: %{{x:.4g}}<br>perplexity: %{{y:.4f}}<extra></extra>",
            ), row=1, col=column,
        )  # fmt: skip
        right = max(x for x, _ in points)
        figure.add_trace(
            Scatter(
                x=[0, right], y=[rows[0]["float_ppl"]] * 2, mode="lines+text", text=["float32", ""],
                textposition="bottom right", line={"color": "#c60", "dash": "dash", "width": 1},
                hovertemplate="float32: %{y:.4f}<extra></extra>",
            ), row=1, col=column,
        )  # fmt: skip
        figure.update_xaxes(title_text=label, rangemode="tozero", row=1, col=column)
    # perplexities of good and bad formats lie decades apart
    figure.update_yaxes(type="log", dtick="D2", row=1)
    figure.update_yaxes(title_text="perplexity on the datapath (log)", row=1, col=1)
    figure.update_layout(showlegend=False, template="plotly_white", height=480, margin={"t": 60})
    return str(figure.to_html(full_html=False, include_plotlyjs=True))
