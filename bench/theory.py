"""How exactly the equalities of the theorems hold: the largest relative residual over random non-convex networks.

The networks are of 18 kinds: three nonlinearities, two batch sizes, three scales gamma. A residual is the difference
of the two sides over the largest term of the equation. What the theorems are compared with comes from autograd.
"""

from collections.abc import Iterator
from itertools import product

import torch

from utils.theory import (
    AFTER,
    Family,
    draw,
    eps_term,
    first_unit,
    inner,
    lemma_4_5,
    residual,
    second_order,
    theorem_4_1,
    theorem_4_2,
    theorem_4_4,
    through_bn,
)

REACH = 1e-12
KINDS = list(product(AFTER, (16, 64), (0.3, 1.0, -3.0)))
EACH = 112  # networks of a kind; 2,016 in all
EPS = 1e-5
SIZE = 3.0


def residuals(nonlinearity: str, m: int, gamma: float, seed: int) -> dict[str, float]:
    """Return the largest residual of each equality over the networks of one kind."""
    nets = draw(Family(m=m, nonlinearity=nonlinearity, gamma=gamma), EACH, seed)
    unit, forms = first_unit(nets), second_order(nets)
    with_eps = first_unit(draw(Family(m=m, nonlinearity=nonlinearity, gamma=gamma, spread=0.1, eps=EPS), EACH, seed))
    squared = inner(unit.v, unit.v)
    start, optimum = torch.randn(2, EACH, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    near = lemma_4_5(start, optimum)
    apart = (through_bn(unit.g, unit.y, gamma) - unit.v).abs().amax(-1) / unit.v.abs().amax(-1)
    eps_terms = theorem_4_1(with_eps.g, with_eps.y, gamma, eps=EPS), eps_term(with_eps.g, with_eps.y, gamma, EPS)
    found = {
        "backward pass, gamma / sigma P g": apart,
        "Theorem 4.1 with 1/m": residual(squared, *theorem_4_1(unit.g, unit.y, gamma)),
        "the same with eps = 1e-5 and its fourth term": residual(
            inner(with_eps.v, with_eps.v), *eps_terms[0], eps_terms[1]
        ),
        "Theorem 4.2, first form": residual(forms.at_y, *theorem_4_2(unit.g, unit.y, unit.v, forms.along_v, gamma)),
        "Theorem 4.4, repaired": residual(SIZE**2 * squared, *theorem_4_4(unit.g, unit.y, SIZE, gamma)),
        "Lemma 4.5": residual(near.distance, near.lemma),
    }
    return {what: values.max().item() for what, values in found.items()}


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield (what, measured, reach) for every equality."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [residuals(*kind, seed) for seed, kind in enumerate(KINDS)]
    finally:
        torch.set_num_threads(threads)
    for what in found[0]:
        worst = max(each[what] for each in found)
        yield (
            f"residual of the equality, {EACH * len(KINDS):,} networks: {what}",
            f"{worst:.0e}",
            f"at most {REACH:.0e}",
        )


if __name__ == "__main__":
    for row in rows():
        print(" | ".join(row))
