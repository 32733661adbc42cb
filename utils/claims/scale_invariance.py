"""The claims of the page `scale_invariance`."""

from utils.claims import Claim, below
from utils.experiments import scale_invariance as scaling


def _scale_errors() -> dict:
    """How far the gradient is from 1/a times that at a = 1, and the turn from 1/a², as a share; and the outputs."""
    found = {a: scaling.factors(a, 0.0) for a in scaling.FACTORS}
    return {
        "output": [each["error"] for each in found.values()],
        "gradient": [abs(each["gradient"] * a - 1) for a, each in found.items()],
    }


def _brake() -> dict:
    ends = {rate: scaling.effective_rate(rate, 2)[:, -1] for rate in (3.0, 10.0)}
    return {"layer 2": ends[10.0] / ends[3.0]}


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "length.changes-no-output",
        "Weights a times as long change no output, and the gradient is 1/a times as long.",
        "Ioffe & Szegedy 2015, section 3.3",
        "largest error, a from 0.001 to 1000, ε = 0, a layer of a trained network in 64 bits",
        _scale_errors,
        below(1e-8),
        "exact",
        shown="scale_invariance#check",
    ),
    Claim(
        "length.weights-grow-by-their-steps",
        "The squared length of normalised weights grows by the squares of the steps.",
        "this book (after Ioffe & Szegedy 2015, section 3.3)",
        "growth over the sum of the squares of all steps, less 1, all layers",
        lambda: {f"rate {rate:g}": scaling.growth_errors(rate) for rate in (1.0, 3.0, 10.0)},
        below(0.01),
        "exact",
        shown="scale_invariance#weights-that-can-only-grow",
    ),
    Claim(
        "length.brake",
        "The larger of two rates that are too large ends with the smaller effective rate.",
        "Ioffe & Szegedy 2015, section 3.3: larger weights, smaller gradients, stabilised growth",
        "effective rate at the end, that of the rate 10 over that of 3, three layers of ReLUs",
        _brake,
        below(1.0),
        "ratio",
        "times",
        shown="scale_invariance#weights-that-can-only-grow",
    ),
)
