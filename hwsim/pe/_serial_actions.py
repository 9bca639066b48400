"""What serial units count as `int_mac` does: everything but the products of a beat and the tree that adds them up."""

from __future__ import annotations

from hwsim.pe import int_mac


def around_products(m: int, n: int, k: int, params: int_mac.Params) -> dict[str, int]:
    """Return the counts of `int_mac.actions` without products, and of their additions those into the block sum."""
    plain = int_mac.actions(m, n, k, params)
    counts = {name: count for name, count in plain.items() if not name.startswith("mul_int") or "int32" in name}
    counts["add_int32"] -= params.sum_words * m * n * (k - beats_of(k, params))
    return counts


def beats_of(k: int, params: int_mac.Params) -> int:
    """Return the beats of a dot product of length `k`, without those that only fill a block."""
    return -(-k // params.lanes)
