"""The explorable of the first page: a deep network, with and without BN, at a learning rate of the reader's choice."""

import numpy as np

from utils.explore import Drawing, control, explore, picture
from utils.style import ARMS, draw_arms, figure, guessing, label, percent_axis, step_axis

RATES, DEPTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0), (5, 10, 20)  # of the experiment, which needs torch to import


@explore(learning_rate=control(RATES), depth=control(DEPTHS, unit="hidden layers"))
def deep_network(learning_rate: float = 0.1, depth: int = 20) -> Drawing:
    """The same network, the same data: how large a step survives?"""
    from utils.experiments.intro import DEEP, deep_runs, final_accuracy  # here: the first controls do not wait for it

    runs = deep_runs(depth, learning_rate)
    fig, (ax,) = figure("accuracy on 360 unseen digits", height=3.2)
    step_axis(ax, DEEP.steps)
    percent_axis(ax.yaxis)
    at = np.linspace(0, DEEP.steps, DEEP.n_evals)
    draw_arms(ax, at, {arm: np.array([run.accuracy_at(at) for run in each]) for arm, each in runs.items()})
    guessing(ax, DEEP.steps / 2)
    said = []
    for arm, each in runs.items():
        final, diverged = final_accuracy(each), sum(run.diverged_at is not None for run in each)
        said.append(
            f"{final.mean():.1%} ± {final.std(ddof=1):.1%} correct {'with BN' if arm == 'bn' else 'without'}"
            + f" ({diverged} of {len(each)} runs diverged)" * bool(diverged)
        )
    return fig, (
        f"{depth} hidden layers, learning rate {learning_rate:g}, {DEEP.steps} steps, {len(runs['bn'])} seeds: "
        f"{', '.join(said)}."
    )


@picture
def arms() -> Drawing:
    """One arm, one colour, one line, in the whole book."""
    rows = -(-len(ARMS) // 2)
    fig, (ax,) = figure("", height=0.5 * rows + 0.3)
    for place, (arm, look) in enumerate(ARMS.items()):
        column, row = divmod(place, rows)
        ax.plot([column * 3, column * 3 + 0.8], [-row, -row], color=look.colour, linestyle=look.dashes)
        label(ax, arm, column * 3 + 1, -row, va="center")
    ax.set(xlim=(-0.1, 5.8), ylim=(0.4 - rows, 0.6))
    ax.set_axis_off()
    fig.subplots_adjust(left=0.02, right=0.98, bottom=0.02, top=0.98)
    return fig, f"The arms: {', '.join(look.label for look in ARMS.values())}."
