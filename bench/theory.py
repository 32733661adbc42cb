"""How exactly the equalities of the theorems hold: the largest relative residual over random non-convex networks.

The networks are of nine kinds: three nonlinearities, three scales gamma. A residual is the difference of the two sides
over the largest term of the equation. What the theorems are compared with comes from autograd.
"""

from collections.abc import Iterator

from utils.experiments.theorem_lab import KINDS, residuals
from utils.training import one_thread

REACH = 1e-12
SEEDS, EACH = 2, 112  # networks of a kind and seed; 2,016 in all


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (what, measured, reach) for every equality."""
    with one_thread():
        found = [residuals(seed, EACH) for seed in range(SEEDS)]
    for what in found[0]:
        worst = max(each[what] for each in found)
        networks = SEEDS * EACH * len(KINDS)
        yield f"residual of the equality, {networks:,} networks: {what}", f"{worst:.0e}", f"at most {REACH:.0e}"


if __name__ == "__main__":
    for row in rows():
        print(" | ".join(row))
