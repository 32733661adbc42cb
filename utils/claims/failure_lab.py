"""The claims of the page `failure_lab`."""

from utils.claims import Claim, Rule, above, below
from utils.experiments import failure_lab as experiment
from utils.experiments import two_processes

PAGE = "failure_lab#"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "failures.frozen-in-training-mode",
        "A network whose parameters are all frozen loses accuracy on its old images when images in another light go "
        "through it in training mode.",
        "this book",
        "points of accuracy on the old test digits that 60 batches in training mode cost, no weight changed",
        lambda: {light: experiment.lost_by_freezing("train()", light) for light in ("brighter", "half the contrast")},
        above(10.0),
        unit="points",
        shown=PAGE + "freezing",
    ),
    Claim(
        "failures.accumulation-exact",
        "Accumulated gradients are those of the whole batch in a plain network and with layer normalisation.",
        "this book",
        "relative difference of the two gradients, a batch of 64 in micro-batches of 2 to 16, float64",
        lambda: {
            f"{norm}, {size}": experiment.relative_errors(
                experiment.accumulated_gradients(norm, size), experiment.accumulated_gradients(norm, 64)
            )
            for norm in ("plain", "layer")
            for size in (2, 4, 16)
        },
        below(1e-9),
        estimate="exact",
        shown=PAGE + "accumulating-gradients",
    ),
    Claim(
        "failures.accumulation-cost",
        "Micro-batches of four or two cost BN accuracy.",
        "this book",
        "points of test accuracy lost to a batch of 64 as one, after 60 steps",
        lambda: {f"micro-batches of {size}": experiment.lost_by_accumulating("bn", size) for size in (4, 2)},
        above(1.0),
        unit="points",
        shown=PAGE + "accumulating-gradients",
    ),
    Claim(
        "failures.dropout-shifts-the-variance",
        "With dropout in front of it a norm meets a smaller variance in use than it has stored.",
        "Li et al. 2018: dropout shifts the variance from training to test, and BN keeps that of training",
        "variance in use over the stored one, the mean over layers 2 and 3, dropout of 0.5",
        lambda: {order: experiment.dropped(order).variance[:, 1:].mean(1) for order in experiment.ORDERS[:2]},
        below(0.8),
        shown=PAGE + "dropout-before-or-after",
    ),
    Claim(
        "failures.dropout-statistics-mend-the-loss",
        "Statistics taken anew without dropout lower the test loss of such a network.",
        "this book",
        "test loss with statistics taken anew over that with the stored ones, dropout of 0.5",
        lambda: {
            order: experiment.dropped(order).loss[:, 1] / experiment.dropped(order).loss[:, 0]
            for order in experiment.ORDERS[:2]
        },
        below(0.9),
        estimate="ratio",
        unit="times",
        shown=PAGE + "dropout-before-or-after",
    ),
    Claim(
        "failures.dropout-statistics-leave-the-accuracy",
        "They change its accuracy by less than two points.",
        "this book",
        "points of test accuracy with statistics taken anew less with the stored ones, dropout of 0.5",
        lambda: {
            order: 100 * (experiment.dropped(order).accuracy[:, 1] - experiment.dropped(order).accuracy[:, 0])
            for order in experiment.ORDERS[:2]
        },
        Rule(-2.0, 2.0),
        unit="points",
        shown=PAGE + "dropout-before-or-after",
    ),
    Claim(
        "failures.dropout-at-the-end",
        "Dropout behind the last norm alone predicts better than dropout at every layer.",
        "Li et al. 2018: strategies that avoid the variance shift",
        "points of test accuracy with dropout behind the last ReLU only, less with it at every layer, dropout of 0.5",
        lambda: {
            order: 100 * (experiment.dropped(experiment.ORDERS[2]).accuracy - experiment.dropped(order).accuracy)[:, 0]
            for order in experiment.ORDERS[:2]
        },
        above(1.0),
        unit="points",
        shown=PAGE + "dropout-before-or-after",
    ),
    Claim(
        "failures.decay-leaves-the-function",
        "Shrinking all hidden weights, and every γ and β but the last, changes no output of a ReLU network with BN.",
        "van Laarhoven 2017: decay has no regularising effect on what is normalised",
        "largest change of a score when they are a tenth as large, float64, epsilon near 0",
        lambda: {"three layers": experiment.shrinking_errors()},
        below(1e-6),
        estimate="exact",
        shown=PAGE + "weight-decay",
    ),
    Claim(
        "failures.decay-raises-the-rate",
        "Weight decay raises the effective learning rate of weights in front of a norm.",
        "van Laarhoven 2017: decay acts on the scale of the weights, and so on the effective learning rate",
        "effective rate of the second layer after 300 steps over that without decay",
        lambda: {f"decay {decay:g}": experiment.rate_ratio(decay) for decay in experiment.DECAYS[1:]},
        above(3.0),
        estimate="ratio",
        unit="times",
        shown=PAGE + "weight-decay",
    ),
    Claim(
        "failures.decay-acts-elsewhere",
        "Weight decay costs training loss with the hidden weights' lengths held, too: by γ, β and the last layer.",
        "this book",
        "training loss under decay over that without, both with the lengths of the hidden weights held",
        lambda: {
            f"decay {decay:g}": experiment.last_loss(decay, True) / experiment.last_loss(0.0, True)
            for decay in experiment.DECAYS[1:]
        },
        above(2.0),
        estimate="ratio",
        unit="times",
        shown=PAGE + "weight-decay",
    ),
    Claim(
        "failures.padding-is-counted",
        "A share p of zeros makes the mean (1 − p)μ and the variance (1 − p)σ² + p(1 − p)μ².",
        "this book",
        "largest difference between the formula and the statistics of padded values",
        experiment.padding_errors,
        below(1e-9),
        estimate="exact",
        shown=PAGE + "padding-and-masks",
    ),
    Claim(
        "failures.layers-keep-the-variance",
        "PyTorch's layer and this book's find it wherever the numbers themselves are finite.",
        "this book",
        "largest relative error of the variance, all precisions, widths and means",
        lambda: {name: experiment.largest_variance_errors(name) for name in experiment.METHODS[2:]},
        below(0.01),
        estimate="exact",
        shown=PAGE + "half-precision",
    ),
    Claim(
        "failures.devices-accumulate",
        "What they find is the gradient accumulated over the two halves, and synchronised statistics give that of the "
        "whole.",
        "this book; torch.nn.SyncBatchNorm does the same on graphics cards",
        "relative difference, float64",
        lambda: {
            f"{name}, {size} examples": error
            for size, found in two_processes.gradients().items()
            for name, error in (
                ("own", experiment.relative_errors(found.own, found.halves)),
                ("synchronised", experiment.relative_errors(found.synchronised, found.whole)),
            )
        },
        below(1e-9),
        estimate="exact",
        shown=PAGE + "several-devices",
    ),
    Claim(
        "failures.output-norm-has-a-floor",
        "With BN on the output of a regression the training error stands above 1.5 / m of the targets' variance.",
        "this book",
        "mean squared error of the last batches over the targets' variance, times the batch size",
        lambda: {
            f"batches of {size}": size * experiment.predicted_at_its_best(experiment.PREDICTORS[2], size).training
            for size in experiment.BATCH_SIZES
        },
        above(1.5),
        shown=PAGE + "a-norm-on-the-output",
    ),
    Claim(
        "failures.output-norm-in-use",
        "In use, with batches of sixty-four, such a network predicts about as well as the plain one.",
        "this book",
        "squared error in use with BN on the output, too, over that of the plain network, each at its best rate",
        lambda: {
            "batches of 64": experiment.predicted_at_its_best(experiment.PREDICTORS[2], 64).in_use
            / experiment.predicted_at_its_best("plain", 64).in_use
        },
        Rule(0.75, 1.25),
        estimate="ratio",
        unit="times",
        shown=PAGE + "a-norm-on-the-output",
    ),
    Claim(
        "failures.hidden-norms-cost-a-regression",
        "BN in the hidden layers predicts a number worse than no norm, at a batch of eight and of sixty-four.",
        "this book",
        "squared error in use with BN in the hidden layers over that of the plain network, each at its best rate",
        lambda: {
            f"batches of {size}": experiment.predicted_at_its_best("bn", size).in_use
            / experiment.predicted_at_its_best("plain", size).in_use
            for size in experiment.BATCH_SIZES
        },
        above(1.0),
        estimate="ratio",
        unit="times",
        shown=PAGE + "a-norm-on-the-output",
    ),
)
