"""What an explorable is: a drawing function, its controls, and all the states that they make."""

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

from utils.explore.live import View
from utils.explore.page import Drawing, State
from utils.style import number, true_minus

MOST_STATES = 100


@dataclass(frozen=True)
class Control:
    """What a reader may choose: its values in order, how they read, and whether it is a time that can play."""

    values: tuple
    label: str
    unit: str = ""
    plays: bool = False

    @property
    def kind(self) -> str:
        """`switch` for booleans, `slider` for numbers, `dropdown` for strings.

        >>> Control((1, 2), "x").kind, Control(("a", "b"), "x").kind, Control((False, True), "x").kind
        ('slider', 'dropdown', 'switch')
        """
        for kind, type_ in (("switch", bool), ("slider", (int, float)), ("dropdown", str)):
            if all(isinstance(value, type_) for value in self.values):
                return kind
        raise TypeError(f"{self.label}: expected all numbers, all strings or all booleans, got {self.values!r}")

    def text(self, value: Any) -> str:
        """How a value reads, with its unit.

        >>> Control((1, 60_000), "batch size", "examples").text(60_000), Control((1, 2), "depth", "layers").text(1)
        ('60,000 examples', '1 layer')
        """
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, str):
            return value
        unit = self.unit.removesuffix("s") if value == 1 else self.unit
        return f"{number(value)} {unit}".strip()

    def word(self, value: Any) -> str:
        """How an address names a value.

        >>> Control((1e-05, 60_000), "x").word(1e-05), Control((False, True), "x").word(True)
        ('1e-05', 'on')
        """
        return self.text(value) if isinstance(value, bool | str) else f"{value:g}"


def control(values: Sequence | bool, label: str = "", unit: str = "", plays: bool = False) -> Control:
    """Describe a control where a plain list does not say enough: its label, its unit, whether it plays as time.

    >>> control([0, 10, 20], "training step", "steps", plays=True).kind
    'slider'
    """
    if isinstance(values, bool):
        values = (False, True)
    as_python = [value.item() if hasattr(value, "item") else value for value in values]
    return Control(tuple(as_python), label, unit, plays)


def explore(**controls: Sequence | bool | Control) -> Callable[[Callable[..., Drawing]], "Explorable"]:
    """Turn a function that returns a figure and one sentence into an :class:`Explorable`.

    Each keyword names a parameter of the function and lists its values: numbers make a slider, strings a dropdown,
    a boolean a switch; :func:`control` adds a label, a unit, play. The function's defaults are the first state.

    Raises
    ------
    TypeError: a control names no parameter, or a parameter has no control.
    ValueError: a parameter has no default among its values, or there are more than 100 states.
    """
    return lambda function: Explorable(function, controls)


class Explorable:
    """A drawing function with its controls; call it to show it, perhaps in another first state."""

    def __init__(self, function: Callable[..., Drawing], controls: dict[str, Sequence | bool | Control]):
        self.name, self.__doc__ = function.__name__, inspect.getdoc(function) or ""
        self.function = function
        self.controls = {name: self._named(name, given) for name, given in controls.items()}
        parameters = inspect.signature(function).parameters
        if set(parameters) != set(controls):
            raise TypeError(
                f"{self.name}: expected one control for each of the parameters {list(parameters)}, got {list(controls)}"
            )
        self.start = {name: parameters[name].default for name in self.controls}
        self._check(self.start)
        count = len(self.states())
        if count > MOST_STATES:
            raise ValueError(f"{self.name}: expected at most {MOST_STATES} states, got {count}")

    @property
    def title(self) -> str:
        """The first line of its docstring."""
        return self.__doc__.partition("\n")[0]

    @staticmethod
    def _named(name: str, given: Sequence | bool | Control) -> Control:
        made = given if isinstance(given, Control) else control(given)
        made = replace(made, label=made.label or name.replace("_", " "))
        if len(set(made.values)) != len(made.values) or len(made.values) < 2:
            raise ValueError(f"{made.label}: expected two or more different values, got {made.values!r}")
        made.kind  # noqa: B018  (raises where values are of several kinds)
        return made

    def _check(self, state: State) -> None:
        for name, value in state.items():
            if name not in self.controls:
                raise TypeError(f"{self.name}: expected controls among {list(self.controls)}, got {name!r}")
            if value not in self.controls[name].values:
                raise ValueError(f"{self.name}: expected {name} among {self.controls[name].values}, got {value!r}")

    def states(self) -> list[State]:
        """Every state, the last control moving fastest."""
        values = (control.values for control in self.controls.values())
        return [dict(zip(self.controls, chosen, strict=True)) for chosen in itertools.product(*values)]

    def indices(self, state: State) -> list[int]:
        """Where each control's value stands among its values: how a page and a widget name a state."""
        return [control.values.index(state[name]) for name, control in self.controls.items()]

    def draw(self, **state: Any) -> Drawing:
        """Run the function in one state; what is not named stays as it is at first.

        Raises
        ------
        TypeError: the function does not return a figure and a sentence.
        """
        self._check(state)
        return _checked(self.name, self.function(**{**self.start, **state}))

    def __call__(self, **state: Any) -> View:
        """Show it, in this state at first."""
        self._check(state)
        return View(self, {**self.start, **state})


def picture(function: Callable[..., Drawing]) -> Callable[..., View]:
    """Show what a drawing function returns in the same homes and the same look, but without controls."""

    @wraps(function)
    def show(*args: Any, **kwargs: Any) -> View:
        def still() -> Drawing:
            return function(*args, **kwargs)

        still.__name__, still.__doc__ = function.__name__, function.__doc__
        return Explorable(still, {})()

    return show


def _checked(name: str, drawing: Any) -> Drawing:
    figure, sentence = drawing if isinstance(drawing, tuple) and len(drawing) == 2 else (None, None)
    if not (hasattr(figure, "savefig") and isinstance(sentence, str) and sentence.strip()):
        raise TypeError(f"{name}: expected a figure and its sentence, got {type(drawing).__name__} {drawing!r:.80}")
    return figure, true_minus(sentence)
