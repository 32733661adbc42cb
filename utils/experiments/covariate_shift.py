"""Covariate shift: p(x) changes between training and test while p(y|x) does not (Shimodaira 2000).

What each kind of shift keeps, how one weighs the training data for a covariate shift, and how one detects it. What
becomes of images and of normalised layers is in `test_time_statistics`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from scipy.stats import binom, norm
from sklearn.base import ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from utils.cache import cached
from utils.progress import progress_range
from utils.seeds import first_seed, numpy_rng
from utils.training import SEEDS

SHIFTS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # of the cloud, in its standard deviations
SAMPLE_SIZES = (100, 500, 2000)
TEST_POINTS = 10_000  # that a fit is evaluated on
WAYS = ("none", "known", "estimated", "trained on test data")  # of weighting
WEAK = 100.0  # scikit-learn's C: a penalty so weak that it only keeps separable data from infinite weights
DETECTED_SHIFTS = (0.0, 0.1, 0.5, 1.0)
DETECTED_SIZES = (20, 50, 100, 200, 500, 1000)  # points in each of the two samples
REPETITIONS = 100  # of a test
LEVEL = 0.05  # of p-values


# --- three kinds of shift, in one dimension ------------------------------------------------------------------------


class Joint(NamedTuple):
    """A joint distribution of one covariate x and a label y of 0 or 1, on a grid of x."""

    x: np.ndarray  # (G,), evenly spaced
    density: np.ndarray  # (G,) p(x)
    posterior: np.ndarray  # (G,) p(y = 1 | x)

    @property
    def prior(self) -> float:
        """p(y = 1)."""
        return float((self.density * self.posterior).sum() * (self.x[1] - self.x[0]))

    def class_density(self, y: int) -> np.ndarray:
        """p(x | y) on the grid."""
        share = self.posterior if y else 1 - self.posterior
        return self.density * share / (self.prior if y else 1 - self.prior)

    def accuracy(self, threshold: float = 0.0) -> float:
        """The share of correct answers of the classifier that says 1 where x > threshold."""
        right = np.where(self.x > threshold, self.posterior, 1 - self.posterior)
        return float((self.density * right).sum() * (self.x[1] - self.x[0]))

    @property
    def best_accuracy(self) -> float:
        """The same of the best classifier there is (Bayes's), which says at each x what is more probable there."""
        right = np.maximum(self.posterior, 1 - self.posterior)
        return float((self.density * right).sum() * (self.x[1] - self.x[0]))


def joint(kind: str = "none", size: float = 0.0) -> Joint:
    """Return the distribution after one kind of shift; before it, x is N(-1, 1) where y = 0 and N(1, 1) where y = 1.

    "covariate" moves p(x) by `size` to the right and keeps p(y|x); "label" multiplies the odds of y = 1 by
    exp(2 size) and keeps p(x|y); "concept" moves p(y|x) by `size` to the left and keeps p(x). Raises ValueError for
    any other kind but "none".

    >>> round(joint().prior, 3), round(joint("label", 1.0).prior, 3), round(joint().accuracy(), 3)
    (0.5, 0.881, 0.841)
    """
    if kind not in ("none", "covariate", "label", "concept"):
        raise ValueError(f"kind: expected 'none', 'covariate', 'label' or 'concept', got {kind!r}")
    covariate, label, concept = (size if kind == each else 0.0 for each in ("covariate", "label", "concept"))
    x, prior = np.linspace(-10, 10, 2001), expit(2 * label)
    density = (1 - prior) * norm.pdf(x, covariate - 1) + prior * norm.pdf(x, covariate + 1)
    return Joint(x, density, expit(2 * (x + label + concept)))


# --- a task in two dimensions --------------------------------------------------------------------------------------


def true_posterior(x: np.ndarray) -> np.ndarray:
    """p(y = 1 | x) of the task in two dimensions, the same for training and test: (N, 2) -> (N,).

    >>> true_posterior(np.array([[0.0, 0.0], [0.0, 1.0]])).round(2)
    array([0.5 , 0.98])
    """
    return expit(4 * (x[:, 1] - np.sin(1.5 * x[:, 0])))


def sample(n: int, shift: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw `n` points x from N((shift, 0), I), of shape (n, 2), and their labels from :func:`true_posterior`.

    >>> x, y = sample(5, shift=2.0, rng=np.random.default_rng(0))
    >>> x.shape, y.shape
    ((5, 2), (5,))
    """
    x = rng.normal(size=(n, 2)) + np.array([shift, 0.0])
    return x, (rng.random(n) < true_posterior(x)).astype(int)


MODELS = {"line": lambda x: x, "true curve": lambda x: np.column_stack([np.sin(1.5 * x[:, 0]), x[:, 1]])}


def fit(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None, model: str = "line") -> LogisticRegression:
    """Fit a logistic regression that minimises the weighted log loss.

    Its features are those of `MODELS[model]`: "line" can only draw a straight boundary, "true curve" can be equal
    to :func:`true_posterior`. Weights are divided by their mean. Raises KeyError for another model.

    >>> x, y = sample(1000, shift=0.0, rng=np.random.default_rng(0))
    >>> fit(x, y, model="true curve").coef_.round(1)
    array([[-3.8,  3.9]])
    """
    scaled = None if weights is None else weights / np.mean(weights)
    return LogisticRegression(C=WEAK, max_iter=1000).fit(MODELS[model](x), y, sample_weight=scaled)


# --- importance weights --------------------------------------------------------------------------------------------


def gaussian_weights(x: np.ndarray, mean_train: ArrayLike, mean_test: ArrayLike) -> np.ndarray:
    """Importance weights p_test(x) / p_train(x) of two normal distributions with unit covariance: (N, D) -> (N,).

    >>> gaussian_weights(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), [0, 0], [2, 0]).round(2)
    array([0.14, 1.  , 7.39])
    """
    from_train, from_test = x - np.asarray(mean_train), x - np.asarray(mean_test)
    return np.exp(((from_train**2).sum(1) - (from_test**2).sum(1)) / 2)


def estimated_weights(x_train: np.ndarray, x_test: np.ndarray, classifier: ClassifierMixin | None = None) -> np.ndarray:
    """Importance weights of the training points, from the points alone: (N, D), (M, D) -> (N,).

    A probabilistic classifier learns to tell test from training points; by Bayes's rule the ratio of its two
    probabilities is the ratio of the densities, times M / N. The default is a logistic regression, which is right
    where the logarithm of the ratio is linear in x, as it is for two normal distributions of one covariance.

    >>> rng = np.random.default_rng(0)
    >>> x_train, x_test = rng.normal(size=(5000, 1)), rng.normal(1, 1, size=(5000, 1))
    >>> true = gaussian_weights(x_train, [0], [1])
    >>> bool(np.corrcoef(np.log(true), np.log(estimated_weights(x_train, x_test)))[0, 1] > 0.999)
    True
    """
    domain_classifier = _domain_classifier(classifier)
    domain_classifier.fit(np.concatenate([x_train, x_test]), np.repeat([0, 1], [len(x_train), len(x_test)]))
    test = domain_classifier.predict_proba(x_train)[:, 1].clip(1e-12, 1 - 1e-12)
    return test / (1 - test) * len(x_train) / len(x_test)


def effective_sample_size(weights: np.ndarray) -> float:
    """How many equally weighted points would give as precise a mean: (sum of w)^2 / sum of w^2 (Kish 1965).

    >>> effective_sample_size(np.array([1.0, 1.0, 1.0, 1.0])), effective_sample_size(np.array([1.0, 0.0, 0.0, 0.0]))
    (4.0, 1.0)

    Raises ValueError for negative weights, or where all are zero.
    """
    weights = np.asarray(weights, dtype=float)
    if (weights < 0).any() or not weights.any():
        raise ValueError("weights: expected no negative one, and not all of them 0")
    weights = weights / weights.max()
    return float(weights.sum() ** 2 / (weights**2).sum())


class Weighting(NamedTuple):
    """Fits with and without weights, evaluated where the test points are: an array (seeds,) for each of WAYS."""

    accuracy: dict[str, np.ndarray]  # share correct of TEST_POINTS
    log_loss: dict[str, np.ndarray]  # nats, expected over the label
    effective: dict[str, np.ndarray]  # effective sample size over n

    @property
    def gain(self) -> np.ndarray:
        """The accuracy with the known weights less that without: (seeds,)."""
        return self.accuracy["known"] - self.accuracy["none"]

    @property
    def cost(self) -> np.ndarray:
        """The log loss with the known weights as a multiple of that without: (seeds,)."""
        return self.log_loss["known"] / self.log_loss["none"]


class WeightedFit(NamedTuple):
    """A fitted model, and the weights of the points that it was fitted to."""

    model: LogisticRegression
    weights: np.ndarray  # (n,)


@cached
def weighting(shift: float, n: int, model: str = "line", seeds: int = SEEDS) -> Weighting:
    """Fit `n` training points from N(0, I) in each of WAYS, and evaluate the fits where x is from N((shift, 0), I).

    "estimated" weights see `n` unlabelled test points; "trained on test data" sees `n` labelled ones.

    >>> result = weighting(2.0, 500, seeds=3)
    >>> bool(result.accuracy["known"].mean() > result.accuracy["none"].mean() + 0.1)
    True
    """
    rows = [_evaluated(shift, n, model, seed) for seed in progress_range(seeds)]
    return Weighting(*({way: np.array([row[way][i] for row in rows]) for way in WAYS} for i in range(3)))


def fits(shift: float, n: int, model: str, seed: int) -> dict[str, WeightedFit]:
    """Fit the data of this seed in each of WAYS.

    >>> fits(1.0, 100, "line", seed=0)["known"].weights.shape
    (100,)
    """
    rng = numpy_rng(seed)
    x, y = sample(n, 0.0, rng)
    x_test, y_test = sample(n, shift, rng)
    weights = {
        "none": np.ones(n),
        "known": gaussian_weights(x, [0, 0], [shift, 0]),
        "estimated": estimated_weights(x, x_test),
    }
    found = {way: WeightedFit(fit(x, y, each, model), each) for way, each in weights.items()}
    return {**found, "trained on test data": WeightedFit(fit(x_test, y_test, model=model), np.ones(n))}


def _evaluated(shift: float, n: int, model: str, seed: int) -> dict[str, tuple[float, float, float]]:
    """Accuracy, log loss and relative effective sample size of each of WAYS."""
    x, y = sample(TEST_POINTS, shift, numpy_rng(10_000 + seed))
    p, found = true_posterior(x), {}
    for way, (fitted, weights) in fits(shift, n, model, seed).items():
        q = fitted.predict_proba(MODELS[model](x))[:, 1].clip(1e-12, 1 - 1e-12)
        loss = -(p * np.log(q) + (1 - p) * np.log(1 - q)).mean()
        found[way] = (float(((q > 0.5) == y).mean()), float(loss), effective_sample_size(weights) / n)
    return found


# --- detecting a shift ---------------------------------------------------------------------------------------------


class TwoSampleTest(NamedTuple):
    """What a classifier two-sample test found."""

    accuracy: float  # on the held-out half
    p_value: float  # of an accuracy at least as high, were the two samples of one distribution
    held_out: int  # points in the held-out half

    def __str__(self) -> str:
        return f"{self.accuracy:.1%} of {self.held_out} held-out points right, p = {self.p_value:.2g}"


def two_sample_test(
    x: np.ndarray, y: np.ndarray, seed: int = 0, classifier: ClassifierMixin | None = None
) -> TwoSampleTest:
    """Ask whether two samples come from one distribution: can a classifier tell them apart on points it has not seen?

    Half of the points train the classifier, the other half evaluate it. If the two distributions are one, its
    accuracy is that of guessing, and the number of correct answers is binomial with probability 1/2, since both
    samples are equally long (Lopez-Paz & Oquab 2017, section 3; they use the normal approximation). The split gives
    both samples an equal share of each half, which makes the test a little conservative.

    >>> rng = np.random.default_rng(0)
    >>> two_sample_test(rng.normal(0, 1, (200, 2)), rng.normal(1, 1, (200, 2))).p_value < 1e-6
    True

    Raises ValueError where the samples differ in length or dimension.
    """
    x, y = (np.asarray(each).reshape(len(each), -1) for each in (x, y))
    if x.shape != y.shape:
        raise ValueError(f"expected two samples of one shape, got {x.shape} and {y.shape}")
    points, sample_of = np.concatenate([x, y]), np.repeat([0, 1], len(x))
    seen, unseen, its, theirs = train_test_split(
        points, sample_of, test_size=0.5, stratify=sample_of, random_state=first_seed() + seed
    )
    right = int((_domain_classifier(classifier).fit(seen, its).predict(unseen) == theirs).sum())
    p_value = binom.sf(right - 1, len(theirs), 0.5)
    return TwoSampleTest(right / len(theirs), float(p_value), len(theirs))


def critical_accuracy(held_out: int, level: float = LEVEL) -> float:
    """The least accuracy on the held-out points at which :func:`two_sample_test` has a p-value of at most `level`.

    >>> critical_accuracy(100)
    0.59
    """
    return float(binom.isf(level, held_out, 0.5) + 1) / held_out


def accuracy_density(accuracy: np.ndarray, held_out: int) -> np.ndarray:
    """The density of the held-out accuracy where there is no shift, by the normal approximation of the binomial.

    >>> accuracy_density(np.array([0.5]), 100).round(2)
    array([7.98])
    """
    return norm.pdf(accuracy, 0.5, 0.5 / np.sqrt(held_out))


def _domain_classifier(given: ClassifierMixin | None = None) -> ClassifierMixin:
    """What tells test points from training points: a fresh copy of `given`, or a logistic regression."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)) if given is None else clone(given)


class Detection(NamedTuple):
    """Many repetitions of a two-sample test: arrays (repetitions,)."""

    accuracy: np.ndarray  # on the held-out points
    p_value: np.ndarray

    @property
    def detected(self) -> np.ndarray:
        """Whether each test calls it a shift: p <= LEVEL."""
        return self.p_value <= LEVEL

    @property
    def power(self) -> float:
        """The share of the tests that call it a shift; where there is none, of false alarms."""
        return float(self.detected.mean())


@cached
def detection(shift: float, n: int, repetitions: int = REPETITIONS) -> Detection:
    """Test `n` points of N(0, I) against `n` of N((shift, 0), I), again and again.

    >>> detection(1.0, 100, repetitions=3).power
    1.0
    """
    found = []
    for seed in progress_range(repetitions):
        rng = numpy_rng(seed)
        (x, _), (y, _) = sample(n, 0.0, rng), sample(n, shift, rng)
        found.append(two_sample_test(x, y, seed))
    return Detection(np.array([test.accuracy for test in found]), np.array([test.p_value for test in found]))
