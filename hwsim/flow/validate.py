"""Hold our figures against published ones: `hwsim validate`."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt

from hwsim.arch.conventions import Options
from hwsim.flow.workloads import simulate_workload
from hwsim.yaml_file import Strict, load

FOLDER = Path(__file__).parent / "published"


class Row(Strict):
    """One published figure; a figure with decimals is text, so that its printed digits are known."""

    machine: str
    workload: str
    phase: Literal["prefill", "decode"] = "prefill"
    context: PositiveInt | None = None
    published: PositiveInt | str


class Table(Strict):
    """Published figures of one source; `context` here is that of every row which states none."""

    paper: str
    source: str
    measure: Literal["total_cycles", "layer_seconds"]
    agreement: Literal["exact", "printed", "information"]
    context: PositiveInt | None = None
    batch: PositiveInt = 1
    attention: Literal["legacy", "corrected"] = "corrected"
    weight_bits: PositiveInt | None = None
    rows: list[Row]


class Tables(Strict):
    """A file of published figures."""

    tables: list[Table]


def validate_cycles() -> list[dict[str, Any]]:
    """Run `hwsim validate cycles`: return one row a published figure.

    ``holds`` is True or False as `agreement` demands, None for what is only information. ``difference`` is ours less
    theirs, in the unit of the measure.
    """
    tables = load(FOLDER / "cycles.yaml", Tables).tables
    return [_compare(table, row) for table in tables for row in table.rows]


def _compare(table: Table, row: Row) -> dict[str, Any]:
    options = Options(attention=table.attention, weight_bits=table.weight_bits)
    found = simulate_workload(
        row.workload, row.machine, phase=row.phase, context=row.context or table.context, batch=table.batch,
        options=options,
    )  # fmt: skip
    entry = " ".join([row.workload, row.phase, row.machine] + ([f"context {row.context}"] if row.context else []))
    said: dict[str, Any] = {"paper": table.paper, "entry": entry, "measure": table.measure}
    if table.measure == "total_cycles":
        published: Any = int(row.published)
        ours: Any = found["total_cycles"]
        holds = ours == published
    else:
        published = Decimal(str(row.published))
        ours = Decimal(found["time_s"]) / found["rows"][0]["repeat"]
        holds = round(ours, _decimals(published)) == published
        ours, published = float(ours), float(published)
    return {
        **said,
        "published": published,
        "ours": ours,
        "difference": ours - published,
        "agreement": table.agreement,
        "holds": holds if table.agreement != "information" else None,
        "source": table.source,
    }


def _decimals(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return -exponent
