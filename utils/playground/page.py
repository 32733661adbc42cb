"""What a reader may compose, the page that offers it, and the data that its script needs."""

import html
import json
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils import toys
from utils.data import DIGITS
from utils.explore.explorable import Control
from utils.explore.page import STYLE, control_markup
from utils.style import ARMS
from utils.training import TASKS, Settings, Task

HERE = Path(__file__).parent
STYLES = STYLE.read_text(encoding="utf-8") + (HERE / "playground.css").read_text(encoding="utf-8")
NAME = "try_anything"  # in addresses
TITLE = "Try anything: compose a network, and train it here"
TOYS = {"moons": toys.moons, "circles": toys.circles, "spirals": toys.spirals}
OPTIMIZERS = {"sgd": {}, "momentum": {"momentum": 0.9}, "adam": {"optimizer": "adam"}}


@dataclass(frozen=True)
class Named(Control):
    """A control whose values read otherwise than addresses name them."""

    names: tuple[str, ...] = ()

    def text(self, value: str | float) -> str:
        """How a value reads.

        >>> CONTROLS["norm"].text("bn"), CONTROLS["norm"].word("bn")
        ('BN', 'bn')
        """
        return self.names[self.values.index(value)]

    def word(self, value: str | float) -> str:
        """How an address names a value."""
        return f"{value}"


def _named(label: str, names: dict[str, str]) -> Named:
    return Named(tuple(names), label, names=tuple(names.values()))


NORMS = ("plain", "bn", "noisy", "layer", "rms", "l1", "l2", "linf", "centre", "scale")
CONTROLS: dict[str, Control] = {
    "data": _named("data", {"digits": "8×8 digits", "moons": "two moons", "circles": "circles", "spirals": "spirals"}),
    "inputs": Control(("standardised", "raw"), "inputs"),
    "norm": _named("normalisation", {norm: ARMS[norm].label for norm in NORMS}),
    "nonlinearity": _named("nonlinearity", {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}),
    "init": _named("first weights", {"glorot": "Glorot", "he": "He", "0.1": "normal, 0.1"}),
    "optimizer": _named("optimiser", {"sgd": "SGD", "momentum": "SGD, momentum 0.9", "adam": "Adam"}),
    "depth": Control(tuple(range(1, 21)), "hidden layers"),
    "width": Control((8, 16, 32, 64, 100, 128), "width", "units"),
    "lr": Control(
        (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10), "learning rate"
    ),
    "batch": Control((1, 2, 4, 8, 16, 32, 60, 128, 256), "batch size"),
    "steps": Control((50, 100, 200, 300, 500, 1000, 2000), "steps"),
    "seed": Control(tuple(range(20)), "seed"),
}
"""What may be chosen, in the page's order: by the names of addresses."""
NEED_A_BATCH = ("bn", "noisy", "l1", "l2", "linf", "centre", "scale")
ALONE = (
    "In a batch of one, the only value is its own mean: nothing is left to normalise. "
    "Take two examples or more, or a norm that looks at one example alone (layer norm, RMS norm)."
)
START = {
    "data": "digits",
    "inputs": "standardised",
    "norm": "bn",
    "nonlinearity": "relu",
    "init": "he",
    "optimizer": "sgd",
    "depth": 10,
    "width": 64,
    "lr": 0.1,
    "batch": 60,
    "steps": 300,
    "seed": 0,
}


def offer_toys() -> None:
    """Let :mod:`utils.training` know the data in the plane."""
    for name, load in TOYS.items():
        TASKS[name] = Task(load, inputs=2, outputs=2)


def compose(**chosen: str | float) -> tuple[Settings, int]:
    """Return the settings and the seed of a composition; what is not named is as the playground has it at first.

    Raises ValueError for what the playground does not offer.

    >>> settings, seed = compose(norm="layer", optimizer="momentum", lr=0.3)
    >>> settings.norm, settings.momentum, settings.depth, seed
    ('layer', 0.9, 10, 0)
    """
    for name, value in chosen.items():
        if name not in CONTROLS or value not in CONTROLS[name].values:
            raise ValueError(f"expected one of {list(CONTROLS)} with a value that it offers, got {name}={value!r}")
    told = {**START, **chosen}
    offer_toys()
    settings = Settings(
        **OPTIMIZERS[told["optimizer"]],
        inputs=told["inputs"].replace("ised", "ized"),
        init=0.1 if told["init"] == "0.1" else told["init"],
        batch_size=told["batch"],
        **{name: told[name] for name in ("data", "norm", "nonlinearity", "depth", "width", "lr", "steps")},
    )
    return settings, told["seed"]


def trouble(norm: str, batch: int, **_: str | float) -> str:
    """Say why a composition makes no sense; nothing where it does.

    >>> trouble("layer", batch=1), trouble("bn", batch=1)[:21]
    ('', 'In a batch of one, th')
    """
    return ALONE if batch == 1 and norm in NEED_A_BATCH else ""


def markup() -> str:
    """The playground's HTML in the published book; its script shows it."""
    controls = "".join(control_markup(name, each, each.values.index(START[name])) for name, each in CONTROLS.items())
    title = html.escape(TITLE)
    return (
        f'<figure class="explorable playground" data-playground="{NAME}" data-digits="static:/digits.js" '
        f'aria-label="{title}"><figcaption>{title}'
        '<button type="button" class="explorable-link" hidden aria-label="Copy link to these settings">Copy link'
        f'</button></figcaption><div class="explorable-controls" hidden>{controls}</div>'
        '<p class="explorable-error" role="alert" hidden></p>'
        '<p class="playground-actions" hidden><button type="button">Train</button> '
        '<button type="button" disabled>Pause</button> <button type="button" disabled>Remove all</button></p>'
        '<canvas role="img" aria-label="Nothing is trained yet."></canvas>'
        '<ul class="playground-runs" aria-label="Runs"></ul>'
        '<template><li><b><svg width="34" height="4" aria-hidden="true"><path d="M0 2h34"/></svg> </b><i></i>'
        '<button type="button">✕</button><span></span></li></template>'
        '<p class="explorable-readout">The playground needs JavaScript, which is off in this browser.</p>'
        '<p class="explorable-spoken" aria-live="polite"></p>'
        "<details hidden><summary>These settings in Python</summary>"
        '<pre tabindex="0"><code></code></pre><button type="button">Copy</button></details></figure>'
    )


def digits_script() -> str:
    """A script that defines the digits for the page: pixels (0 to 16) of all images, then all labels, a byte each.

    >>> digits_script()[:40]
    'globalThis.PLAYGROUND_DIGITS={"train":14'
    """
    with np.load(DIGITS, allow_pickle=False) as arrays:
        parts = [arrays[name] for name in ("x_train", "x_test", "y_train", "y_test")]
    content = b"".join(part.astype(np.uint8).tobytes() for part in parts)
    told = {"train": len(parts[2]), "base64": b64encode(content).decode()}
    return f"globalThis.PLAYGROUND_DIGITS={json.dumps(told, separators=(',', ':'))};\n"
