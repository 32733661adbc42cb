"""The claims of the page `conventions`."""

from utils.claims import Claim, above, below
from utils.experiments import conventions as experiment

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "conventions.copied",
        "Copied into a framework that weighs the old value, PyTorch's momentum makes the mean follow each batch.",
        "this book",
        "error of the running mean with 0.1 copied over that with it converted, a unit that does not move",
        experiment.copied_over_converted,
        above(2.0),
        estimate="ratio",
        unit="times",
        shown="conventions#the-same-number",
    ),
    Claim(
        "conventions.biased",
        "In Keras, flax, Haiku and ONNX the running variance settles at (m - 1)/m of PyTorch's.",
        "this book",
        "how far Keras's running variance over PyTorch's is from 3/4, batches of 4",
        lambda: {"batches of 4": abs(experiment.biased_share(m=4) - 0.75)},
        below(0.01),
        estimate="exact",
        shown="conventions#the-same-number",
    ),
    Claim(
        "conventions.silent",
        "Some wrong ports are silent: with Keras's ε, or left in training mode, a network of ours loses less than two "
        "points of accuracy.",
        "this book",
        "test accuracy of the network less that of its wrong port, three ReLU layers, digits",
        experiment.accuracy_lost,
        below(2.0),
        unit="points",
        shown="conventions#what-a-wrong-port-costs",
    ),
    Claim(
        "conventions.port",
        "Keras's four arrays and two numbers make a layer of PyTorch that gives the same in evaluation.",
        "this book",
        "largest difference between Keras's formula and the ported layer, float64",
        lambda: {"100 units": experiment.port_error()},
        below(1e-9),
        estimate="exact",
        shown="conventions#a-port-by-hand",
    ),
)
