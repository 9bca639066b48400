"""Evaluate combinational parts in Amaranth's own simulator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from amaranth.lib import wiring
from amaranth.sim import Simulator


def evaluate(part: wiring.Component, vectors: Iterable[Mapping[str, int]], outputs: Iterable[str]) -> list[dict[str, int]]:
    """Return the outputs of a combinational part for each vector of inputs."""
    results: list[dict[str, int]] = []
    names = list(outputs)

    async def bench(ctx) -> None:
        for vector in vectors:
            for name, value in vector.items():
                ctx.set(getattr(part, name), value)
            results.append({name: ctx.get(getattr(part, name)) for name in names})

    simulator = Simulator(part)
    simulator.add_testbench(bench)
    simulator.run()
    return results
