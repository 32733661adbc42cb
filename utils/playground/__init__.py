"""The playground: a reader composes an experiment and trains it; and four figures that take the reader's own numbers.

In the published book a script trains (`playground.js`, the same numbers as :mod:`utils.training`, step by step); with a
kernel :func:`utils.training.updates` does. Each function here returns what a notebook shows in both homes.
"""

from utils.playground.batch import company, one_batch, projection, sigmoid_range
from utils.playground.page import CONTROLS, compose, digits_script
from utils.playground.trainer import Playground, try_anything

__all__ = [
    "CONTROLS",
    "Playground",
    "company",
    "compose",
    "digits_script",
    "one_batch",
    "projection",
    "sigmoid_range",
    "try_anything",
]
