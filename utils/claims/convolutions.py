"""The claims of the chapter `convolutions`."""

from utils.claims import Claim, Rule, above, below
from utils.experiments import convolutions as experiment

DENSE = ("fully connected", "fully connected, small steps")

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "convolutions.as-a-table",
        "BN in a convolution is BN of a dense layer on a table with a row for each place of each image.",
        "Ioffe & Szegedy 2015, section 3.2: over all locations, the effective mini-batch size is m p q",
        "largest difference, of values and of running statistics, float64",
        experiment.as_table_errors,
        below(1e-9),
        estimate="exact",
        shown="convolutions#check",
    ),
    Claim(
        "convolutions.worth",
        "For a batch's mean the 49 or 196 places of an image are worth more than two and fewer than thirty "
        "independent values.",
        "this book",
        "variance of a channel over that of the means of random batches, times the images in them",
        experiment.images_worth,
        Rule(2.0, 30.0),
        estimate="ratio",
        unit="values",
        shown="convolutions#how-many-values",
    ),
    Claim(
        "convolutions.pairs-dense",
        "With two images to a mean a fully connected network with BN learns little, and the plain one much.",
        "this book",
        "training accuracy of the plain network less that of BN, digits, each at its own best rate, 150 steps",
        lambda: {case: experiment.behind_plain(case) for case in DENSE},
        above(30.0),
        unit="points",
        shown="convolutions#small-batches-trained",
    ),
    Claim(
        "convolutions.pairs-convolutional",
        "With two images to a mean a convolutional network with BN loses little of its training accuracy.",
        "this book",
        "training accuracy of BN with 32 images to a mean less that with 2, clothes, 100 steps",
        lambda: {"convolutional": experiment.lost_by_sharing("convolutional")},
        below(20.0),
        unit="points",
        shown="convolutions#small-batches-trained",
    ),
    Claim(
        "convolutions.better-in-evaluation",
        "With four images to a mean a fully connected network is better in evaluation than in training.",
        "this book",
        "accuracy on new images in evaluation less that on training batches, digits",
        lambda: {case: experiment.better_in_evaluation(case, 4) for case in DENSE},
        above(5.0),
        unit="points",
        shown="convolutions#small-batches-trained",
    ),
    Claim(
        "convolutions.one-image",
        "A convolutional network that was trained with one image to a mean fails in evaluation.",
        "this book",
        "accuracy on new images, each by its own statistics, less that in evaluation, clothes, 100 steps",
        lambda: {"convolutional": experiment.worse_in_evaluation("convolutional", 1)},
        above(10.0),
        unit="points",
        shown="convolutions#small-batches-trained",
    ),
    Claim(
        "convolutions.one-class",
        "Trained on batches of one class, BN knows its training batches and not a single new image.",
        "this book; Wu & Johnson 2021, section 6, has the case in detection",
        "training accuracy less that on new images after 800 steps, digits",
        experiment.known_in_training_only,
        above(40.0),
        unit="points",
        shown="convolutions#batches-of-one-kind",
    ),
    Claim(
        "convolutions.plain-recovers",
        "The plain network, trained on the same batches, in the end knows new images.",
        "this book",
        "accuracy on new images after 800 steps, digits",
        experiment.plain_in_the_end,
        above(90.0),
        unit="per cent",
        shown="convolutions#batches-of-one-kind",
    ),
)
