"""The check of the exercise in "Covariate shift"."""

from collections.abc import Callable

import numpy as np
import torch

from utils.checks import RIGHT, tried
from utils.seeds import numpy_rng


def check_weights(weights: Callable[[np.ndarray, float], np.ndarray]) -> str:
    """Check importance weights w(x, d) for a test cloud that is moved by d along x_2: (N, 2), number -> (N,).

    >>> check_weights(lambda x, d: np.exp(d * x[:, 1] - d**2 / 2))
    'Right.'
    >>> check_weights(lambda x, d: np.ones(len(x)))
    'All weights are equal: points that lie where the test cloud is must weigh more.'
    """
    x, d = numpy_rng(0).normal(size=(40, 2)), 1.5
    given, trouble = tried(weights, x, d, shape=(40,))
    if given is None:
        return trouble
    right = torch.from_numpy(np.exp(d * x[:, 1] - d**2 / 2))
    if torch.allclose(given, right, rtol=1e-4):
        return RIGHT
    if torch.allclose(given, given[:1].expand(40)):
        return "All weights are equal: points that lie where the test cloud is must weigh more."
    if torch.allclose(given, torch.from_numpy(np.exp(d * x[:, 0] - d**2 / 2)), rtol=1e-4):
        return "These are the weights for a cloud that is moved along the first coordinate."
    if torch.allclose(given / right, (given / right)[:1].expand(40), rtol=1e-4):
        return f"Right but for a constant factor of {(given / right)[0]:.3g}: what is the mean of all weights?"
    return "Not the ratio of the two densities: divide that of N((0, d), I) by that of N(0, I)."
