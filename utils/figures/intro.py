"""What the first page has of its own: a deep network, with and without BN, at a learning rate that one chooses."""

import numpy as np

from utils.explore import Answer, Drawing, control, explore, predict
from utils.style import draw_arms, figure, guessing, percent_axis, step_axis

RATES, DEPTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0), (5, 10, 20)  # of the experiment, which needs torch to import


@explore(learning_rate=control(RATES), depth=control(DEPTHS, unit="hidden layers"))
def deep_network(learning_rate: float = 0.1, depth: int = 10) -> Drawing:
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


# --- questions -----------------------------------------------------------------------------------------------------

NOT_FURTHER, SOME, FAR = (
    "not further: both break at about the same rate",
    "up to 3 times as far",
    "10 times as far or more",
)
WHERE = ("near the plain network", "about half-way", "near BN without noise")


@predict(NOT_FURTHER, SOME, FAR)
def predict_rate() -> Answer:
    """Ten hidden layers, and a learning rate that you raise until learning breaks: how much further can you go with
    BN?
    """
    from utils.experiments.intro import deep_runs, final_accuracy

    largest = {}
    for arm in ("plain", "bn"):
        means = {rate: final_accuracy(deep_runs(10, rate)[arm]).mean() for rate in RATES}
        largest[arm] = max(rate for rate, mean in means.items() if mean > 0.8)
    times = largest["bn"] / largest["plain"]
    choice = NOT_FURTHER if times < 2 else SOME if times < 5 else FAR
    return choice, (
        f"The largest rate with four right answers in five, in the mean of ten seeds: {largest['plain']:g} "
        f"without BN, {largest['bn']:g} with it."
    )


@predict(*WHERE)
def predict_noise() -> Answer:
    """Its outputs jump at every step. Where will noisy BN's training curve lie?"""
    from utils.experiments.noise_on_purpose import retained_at, retained_third

    share = float(retained_at(0.1, 1.0).mean())
    return WHERE[
        retained_third(share)
    ], f"It keeps {share:.0%} of BN's gain in area under the curve, the mean of ten seeds."
