"""The playground: its script gives PyTorch's numbers, its page serves every reader, and a kernel does the same."""

import gzip
import html
import itertools
import json
import re
from base64 import b64decode
from contextlib import contextmanager

import nbformat
import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from harness.browser import spoken_names, visiting
from harness.clone import ROOT
from harness.playground import OWN, choose, write_page
from torch import nn

from utils import playground
from utils.batchnorm import normalize
from utils.data import digits
from utils.playground import page as composing
from utils.playground.page import CONTROLS, START, compose, trouble
from utils.training import TASKS, Settings, evenly_spaced, train

SCRIPTS = [ROOT / "utils" / "playground" / name for name in ("playground.js", "batch.js")]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
CLOSE, FIRST = 1e-4, 20  # how near losses must be, and over how many steps: afterwards the last digit may decide
SMALL = {"depth": 3, "width": 32, "nonlinearity": "tanh", "init": "glorot"}
RATES = {"sgd": 0.1, "momentum": 0.03, "adam": 0.003}
PAIRS = list(itertools.product(composing.NORMS, RATES))

# A composition as the page's script has it, and what becomes of it: first weights, first batch, losses, test accuracy.
TRAIN = """([settings, stored]) => {
    const training = new (window.E ??= engine()).Training(settings, stored);
    const weights = training.network.layers.map(({ weight }) => [...weight.value]);
    const [batch, losses, tests] = [[...training.batch], [], []];
    if (training.evals.has(0)) tests.push([0, training.tested().accuracy]);
    while (!training.ended) {
        losses.push(training.update().loss);
        if (training.evals.has(training.step)) tests.push([training.step, training.tested().accuracy]);
    }
    return { weights, batch, losses: losses.map(String), tests, ended: training.ended };
}"""
STORED = json.loads(playground.digits_script().partition("=")[2].rstrip(";\n"))


@pytest.fixture(scope="module", autouse=True)
def first_seed():
    """The script knows no BOOK_FIRST_SEED; and this module's tasks are gone when it ends."""
    before = dict(TASKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOOK_FIRST_SEED", "0")
        patch.delenv("BOOK_FRAMES", raising=False)
        patch.delenv("BOOK_EXERCISE", raising=False)
        yield
    TASKS.clear()
    TASKS.update(before)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("playground")).as_uri()


@pytest.fixture(scope="module")
def numbers(browser, address):
    """A page whose script is asked for numbers alone."""
    with visiting(browser, address) as page:
        page.evaluate("window.E = engine()")
        yield page


@pytest.fixture
def visit(browser, address):
    """Open the playground: `with opened() as (page, root)`."""

    @contextmanager
    def opened(fragment="", **settings):
        with visiting(browser, address + fragment, **settings) as page:
            root = page.locator("[data-playground][data-ready]")
            root.wait_for()
            yield page, root

    return opened


def as_script(**chosen):
    """A composition as the script gets it from the page."""
    told = {**START, **chosen}
    return {**told, "init": 0.1 if told["init"] == "0.1" else told["init"]}


def both(numbers, **chosen):
    """What the script and torch make of a composition."""
    settings, seed = compose(**chosen)
    theirs = numbers.evaluate(TRAIN, [as_script(**chosen), STORED])
    theirs["losses"] = np.array(theirs["losses"], dtype=float)
    return theirs, train(settings, seed), settings.network(seed)


# --- the same numbers as torch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7, 123_456])
def test_the_generator_draws_what_torchs_draws(numbers, seed):
    sizes = [1, 5, 16, 37, 2100, 6, 3]  # below 16 a pair's second half waits for the next call
    code = """([seed, sizes]) => {
        const rng = new E.Generator(seed);
        return [sizes.map(n => [...rng.uniform(new Float32Array(n), -0.3, 0.3)]),
            Array.from({ length: 50 }, () => rng.below(1437)),
            sizes.map(n => [...rng.normal(new Float32Array(n), 0, 0.1)]),
            rng.below(600)]
    }"""
    uniform, whole, normal, last = numbers.evaluate(code, [seed, sizes])
    rng = torch.Generator().manual_seed(seed)
    for size, drawn in zip(sizes, uniform, strict=True):  # but for the last bit, which a processor rounds as it does
        expected = torch.empty(size).uniform_(-0.3, 0.3, generator=rng)
        torch.testing.assert_close(torch.tensor(drawn), expected, rtol=0, atol=1e-7)
    assert whole == torch.randint(1437, (50,), generator=rng).tolist()
    for size, drawn in zip(sizes, normal, strict=True):
        torch.testing.assert_close(torch.tensor(drawn), torch.empty(size).normal_(0, 0.1, generator=rng))
    assert last == torch.randint(600, (1,), generator=rng).item()


@pytest.mark.parametrize("name", ["digits", *composing.TOYS])
@pytest.mark.parametrize("inputs", CONTROLS["inputs"].values)
def test_the_data_are_the_same(numbers, name, inputs):
    code = """([name, inputs, stored]) => {
        const data = name === "digits" ? E.digits(stored) : E.toy(name);
        if (inputs === "standardised") E.standardize(data);
        return [[...data.x], [...data.y], data.train]
    }"""
    x, y, count = numbers.evaluate(code, [name, inputs, STORED])
    split = compose(data=name, inputs=inputs)[0].task()
    assert count == len(split.y_train)
    assert y == torch.cat([split.y_train, split.y_test]).tolist()
    torch.testing.assert_close(torch.tensor(x), torch.cat([split.x_train, split.x_test]).flatten(), rtol=0, atol=3e-6)


def test_the_digits_are_those_of_the_book():
    x = digits().x_train
    first = b64decode(STORED["base64"])[:64]
    assert torch.equal(x[0] * 16, torch.tensor(list(first), dtype=torch.float32))


@pytest.mark.parametrize(("norm", "optimizer"), PAIRS, ids=map(" ".join, PAIRS))
def test_every_norm_trains_as_in_torch_with_every_optimizer(numbers, norm, optimizer):
    theirs, ours, net = both(numbers, **SMALL, norm=norm, optimizer=optimizer, lr=RATES[optimizer])
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    for layer, weight in zip(layers, theirs["weights"], strict=True):
        torch.testing.assert_close(torch.tensor(weight), layer.weight.flatten().detach(), rtol=0, atol=1e-6)
    assert theirs["batch"] == torch.randint(1437, (60,), generator=torch.Generator().manual_seed(0)).tolist()
    assert np.abs(theirs["losses"] - ours.loss)[:FIRST].max() < CLOSE
    steps, accuracies = zip(*theirs["tests"], strict=True)
    assert list(steps) == ours.eval_steps.tolist()
    early = ours.eval_steps < FIRST
    assert np.abs(np.array(accuracies) - ours.test_accuracy)[early].max() < 0.006  # two digits of 360
    assert (theirs["tests"][-1][1] > 0.9) == (ours.test_accuracy[-1] > 0.9)
    assert theirs["ended"] == "done" and ours.diverged_at is None


@pytest.mark.parametrize(
    "chosen",
    [
        {"nonlinearity": "sigmoid", "norm": "bn", "lr": 0.5},
        {"nonlinearity": "relu", "init": "he", "norm": "plain", "seed": 3},
        {"nonlinearity": "relu", "init": "0.1", "inputs": "raw", "norm": "layer"},
        {"data": "moons", "norm": "bn", "batch": 256, "width": 8},
        {"data": "circles", "norm": "plain", "depth": 1},
        {"data": "spirals", "norm": "rms", "batch": 1, "lr": 0.01},
        {"norm": "bn", "batch": 2, "lr": 0.001},
        {"nonlinearity": "relu", "init": "he", "norm": "plain", "depth": 20, "lr": 0.01, "seed": 19},
    ],
    ids=str,
)
def test_whatever_is_composed_trains_as_in_torch(numbers, chosen):
    theirs, ours, _ = both(numbers, **{**SMALL, "steps": 50, **chosen})
    assert np.abs(theirs["losses"] - ours.loss)[:FIRST].max() < CLOSE
    assert theirs["ended"] == "done" and ours.diverged_at is None


@pytest.mark.parametrize("norm", ["plain", "centre"])
def test_what_diverges_in_torch_diverges(numbers, norm):
    theirs, ours, _ = both(numbers, norm=norm, nonlinearity="relu", init="he", lr=10, steps=100)
    assert theirs["ended"] == "diverged" and ours.diverged_at is not None
    assert not np.isfinite(theirs["losses"][-1]) and np.isfinite(theirs["losses"][:-1]).all()


@pytest.mark.parametrize("steps", CONTROLS["steps"].values)
def test_test_data_are_looked_at_at_the_same_steps(numbers, steps):
    code = "([settings, stored]) => [...new E.Training(settings, stored).evals]"
    seen = numbers.evaluate(code, [as_script(data="moons", depth=1, width=8, steps=steps), None])
    assert seen == evenly_spaced(steps, Settings.n_evals)


# --- the page --------------------------------------------------------------------------------------------------------

STATUS = ".playground-runs span"
ENDED = f"""count => [...document.querySelectorAll('{STATUS}')]
    .filter(each => /^after|^diverged/.test(each.textContent)).length >= count"""
QUICK = {"depth": 2, "width": 16, "steps": 100, "data": "moons"}
ENDLESS = {"depth": 20, "width": 128, "steps": 2000, "data": "moons", "batch": 256}


def press(root, name):
    root.get_by_role("button", name=name, exact=True).click()


def step(root, run=0):
    return int(re.search(r"\d+", root.locator(STATUS).nth(run).inner_text())[0])


def test_a_run_is_drawn_told_and_spoken_at_rest(visit):
    with visit() as (page, root):
        assert root.locator(".explorable-readout").inner_text() == "Choose, and press Train."
        empty = root.locator("canvas").evaluate("canvas => canvas.toDataURL()")
        choose(root, **QUICK)
        press(root, "Train")
        page.wait_for_function(ENDED, arg=1)
        told = root.locator(STATUS).inner_text()
        assert re.fullmatch(r"after 100 steps: loss \S+, \d+ % of the test data right", told)
        words = "BN, ReLU, 2 layers of 16, He; SGD at 0.1, batches of 60; two moons, standardised; seed 0"
        assert root.locator(".playground-runs i").inner_text() == words
        sentence = root.locator("canvas").get_attribute("aria-label")
        assert sentence.startswith(f"A {told}. Nine in ten values that enter its first nonlinearity lie between ")
        spoken = "sentence => document.querySelector('.explorable-spoken').textContent === sentence"
        page.wait_for_function(spoken, arg=sentence)
        assert root.locator("canvas").evaluate("canvas => canvas.toDataURL()") != empty


def test_the_digits_are_asked_for_at_the_first_run_on_them_and_nothing_else_ever_is(visit):
    with visit() as (page, root):
        asked = []
        page.on("request", lambda request: request.url.startswith("blob:") or asked.append(request.url))
        choose(root, **{**QUICK, "steps": 50})
        press(root, "Train")
        page.wait_for_function(ENDED, arg=1)
        assert asked == []
        choose(root, data="digits")
        for count in (2, 3):
            press(root, "Train")
            page.wait_for_function(ENDED, arg=count)
        assert [url.rpartition("/")[2] for url in asked] == ["digits.js"]


def test_without_its_data_it_says_so_and_tries_again(visit):
    with visit(forgiven="ERR_FILE_NOT_FOUND") as (page, root):
        page.evaluate("root => { root.dataset.digits = 'nothing.js' }", root.element_handle())
        press(root, "Train")
        root.get_by_role("alert").filter(has_text="The digits could not be loaded.").wait_for()
        assert root.locator(STATUS).count() == 0
        page.evaluate("root => { root.dataset.digits = 'digits.js' }", root.element_handle())
        choose(root, steps=50, depth=1)
        press(root, "Train")
        page.wait_for_function(ENDED, arg=1)


def test_it_pauses_goes_on_and_is_removed(visit):
    with visit() as (page, root):
        assert root.get_by_role("button", name="Pause").is_disabled()
        choose(root, **ENDLESS)
        press(root, "Train")
        page.wait_for_function(f"/step/.test(document.querySelector('{STATUS}').textContent)")
        press(root, "Pause")
        page.wait_for_timeout(500)  # the step in hand ends
        before = step(root)
        page.wait_for_timeout(300)
        assert step(root) == before and root.locator(STATUS).inner_text().startswith("paused at step")
        press(root, "Go on")
        page.wait_for_function(
            f"before => +/\\d+/.exec(document.querySelector('{STATUS}').textContent) > before", arg=before
        )
        press(root, "Remove all")
        assert root.locator(STATUS).count() == 0
        assert root.get_by_role("button", name="Remove all").is_disabled()
        assert page.evaluate("document.activeElement.textContent") == "Train"


def test_a_hidden_page_pauses_until_it_is_seen_again(visit):
    hide = """hidden => {
        Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    with visit() as (page, root):
        choose(root, **ENDLESS)
        press(root, "Train")
        page.wait_for_function(f"/step/.test(document.querySelector('{STATUS}').textContent)")
        page.evaluate(hide, True)
        assert root.locator(STATUS).inner_text().startswith("paused while the page was hidden at step")
        page.evaluate(hide, False)
        assert root.locator(STATUS).inner_text().startswith("training at step")


def test_four_runs_stand_side_by_side_each_with_its_look(visit):
    with visit() as (page, root):
        choose(root, **QUICK)
        for norm in ("bn", "plain", "bn", "layer"):
            choose(root, norm=norm)
            press(root, "Train")
        page.wait_for_function(ENDED, arg=4)
        lines = root.locator(".playground-runs li")
        assert [text.strip() for text in lines.locator("b").all_text_contents()] == ["A", "B", "C", "D"]
        looks = lines.evaluate_all("all => all.map(each => each.style.getPropertyValue('--run'))")
        assert looks[:2] == ["var(--run-1)", "var(--run-0)"] and len(set(looks)) == 4  # BN and plain have their own
        dashes = lines.locator("path").evaluate_all("all => all.map(each => each.getAttribute('stroke-dasharray'))")
        assert len(set(dashes)) == 4
        press(root, "Train")
        assert root.get_by_role("alert").inner_text() == "Four runs stand side by side: remove one first."
        press(root, "Remove run B")
        assert not root.get_by_role("alert").is_visible()
        press(root, "Train")
        page.wait_for_function(ENDED, arg=4)
        assert lines.locator("b").last.inner_text().strip() == "B"


def test_a_run_that_diverges_ends_and_says_so(visit):
    with visit() as (page, root):
        choose(root, norm="plain", lr=10, data="moons")
        press(root, "Train")
        page.wait_for_function(ENDED, arg=1)
        assert re.fullmatch(
            r"diverged: after \d+ steps? the loss is no finite number", root.locator(STATUS).inner_text()
        )
        assert "NaN" not in root.inner_text() and "Infinity" not in root.inner_text()


def test_what_makes_no_sense_is_told_and_not_trained(visit):
    with visit() as (_, root):
        for norm in composing.NORMS:
            choose(root, norm=norm, batch=1)
            expected = trouble(norm, 1)
            assert root.get_by_role("alert").is_visible() == bool(expected)
            if expected:
                press(root, "Train")
                assert root.get_by_role("alert").inner_text() == expected
        assert root.locator(STATUS).count() == 0
        choose(root, batch=2)
        assert not root.get_by_role("alert").is_visible()


def test_a_copied_link_opens_with_the_same_settings(visit):
    chosen = {"data": "spirals", "norm": "linf", "init": "0.1", "lr": 0.003, "optimizer": "adam", "depth": 7, "seed": 5}
    with visit(permissions=["clipboard-read", "clipboard-write"]) as (page, root):
        choose(root, **chosen)
        press(root, "Copy link to these settings")
        link = page.evaluate("navigator.clipboard.readText()")
        page.wait_for_function("link => location.href === link", arg=link)
        code = root.locator("code").text_content()
    with visit("#" + link.partition("#")[2]) as (page, root):
        assert root.locator("code").text_content() == code
        assert root.locator("[data-name=depth] output").inner_text() == "7"
        page.evaluate("location.hash = 'try_anything?depth=3&norm=nothing&hide=lr,seed'")
        page.wait_for_function("document.querySelector('[data-name=depth] output').textContent === '3'")
        assert root.locator("[data-name=norm] select").evaluate("field => field.selectedIndex") == 7
        assert [root.locator(f"[data-name={name}]").is_visible() for name in ("lr", "seed", "depth")] == [
            False,
            False,
            True,
        ]


def test_the_address_follows_and_back_and_a_reload_keep_the_composition(visit):
    with visit() as (page, root):
        choose(root, lr=1)
        page.wait_for_function("location.hash.includes('lr=1&')")
        page.reload()
        assert "lr=1," in root.locator("code").text_content()
        assert root.locator("[data-name=lr] output").inner_text() == "1"


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"data": "moons", "optimizer": "momentum", "init": "0.1", "seed": 4, "batch": 128},
        {"data": "spirals", "optimizer": "adam", "inputs": "raw", "norm": "linf", "lr": 0.005},
    ],
    ids=str,
)
def test_the_script_to_take_home_makes_the_run(visit, chosen, capsys):
    with visit() as (_, root):
        choose(root, **chosen)
        code = root.locator("code").text_content()
    assert max(map(len, code.splitlines())) < 80
    TASKS.pop(chosen.get("data"), None)
    told = {}
    exec(code, told)
    settings, seed = compose(**chosen)
    assert told["settings"] == settings and f"seed={seed})" in code
    assert re.fullmatch(r"test accuracy \d+\.\d%\nloss \d\.\d{3}\n", capsys.readouterr().out)


def test_the_worker_speaks_at_most_thirty_times_a_second_and_keys_do_not_wait(visit):
    watch = """() => {
        window.times = [];
        const Plain = Worker;
        window.Worker = function (source) {
            const worker = new Plain(source);
            worker.addEventListener('message', () => times.push(performance.now()));
            return worker;
        };
    }"""
    with visit() as (page, root):
        page.evaluate(watch)
        choose(root, data="moons", steps=2000, depth=10)
        press(root, "Train")
        page.wait_for_function("times.length > 20")
        root.locator("[data-name=seed] input").press("ArrowRight")
        assert root.locator("[data-name=seed] output").inner_text() == "1"
        first, *_, last = times = page.evaluate("times")
        assert (len(times) - 2) / (last - first) * 1000 < 31  # the first comes after one step


def test_all_of_it_goes_by_keyboard(visit):
    with visit() as (page, root):
        choose(root, **QUICK)
        root.locator("[data-name=seed] input").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # Train
        page.wait_for_function(ENDED, arg=1)
        root.get_by_role("button", name="Remove run A").focus()
        page.keyboard.press("Enter")
        assert root.locator(STATUS).count() == 0


RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
SHADES = """canvas => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const shades = data.filter((_, i) => i % 4 === 1 && data[i + 2] === 255); // the green of what is opaque
    return [shades.reduce((a, b) => Math.min(a, b)), shades.reduce((a, b) => Math.max(a, b))]
}"""


def test_in_light_and_in_dark_every_reader_finds_it_legible_and_named(visit):
    with visit() as (page, root):
        choose(root, **QUICK)
        press(root, "Train")
        page.wait_for_function(ENDED, arg=1)
        root.locator("summary").click()
        for theme in ("light", "dark"):
            page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False, "runOnly": RULES})
            assert not found.violations_count, found.generate_report()
            darkest, lightest = root.locator("canvas").evaluate(SHADES)
            assert (lightest > 220) if theme == "dark" else (darkest < 60)


def test_on_a_phone_nothing_scrolls_sideways_and_targets_are_large(visit):
    with visit(**PHONE) as (page, root):
        choose(root, **QUICK)
        press(root, "Train")
        page.wait_for_function(ENDED, arg=1)
        root.locator("summary").click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth && innerWidth === 390")
        targets = page.locator("figure :is(select, input, button):not(.explorable-link)")
        boxes = targets.evaluate_all(
            "all => all.filter(each => each.checkVisibility()).map(each => each.getBoundingClientRect())"
        )
        assert len(boxes) > 30 and min(min(box["width"], box["height"]) for box in boxes) >= 44


def test_every_control_has_a_name_of_its_own(visit):
    with visit() as (page, _):
        page.evaluate("document.querySelector('figure').dataset.explorable = ''")  # as the harness looks for them
        names = spoken_names(page, 0)
        assert len(names) == len(set(names)) == len(CONTROLS) and all(names)


def test_where_motion_is_unwelcome_it_is_drawn_once_a_second(visit):
    with visit(reduced_motion="reduce") as (page, root):
        page.evaluate("""() => {
            window.drawn = 0;
            const { fillText } = CanvasRenderingContext2D.prototype;
            CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
                drawn += text === 'Loss on the batch';
                fillText.call(this, text, ...place);
            };
        }""")
        choose(root, **ENDLESS)
        press(root, "Train")
        page.wait_for_function(f"/step/.test(document.querySelector('{STATUS}').textContent)")
        before = page.evaluate("drawn")
        page.wait_for_timeout(1500)
        assert page.evaluate("drawn") - before <= 2


def test_a_reader_without_scripts_sees_no_dead_controls(browser, address):
    with visiting(browser, address, java_script_enabled=False) as page:
        assert not [each for each in page.locator("figure :is(input, select, button)").all() if each.is_visible()]
        assert page.get_by_text("needs JavaScript").count() == 1 + len(OWN)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_small(path):
    assert len(gzip.compress(path.read_bytes())) < 15_000


# --- the reader's own numbers ----------------------------------------------------------------------------------------


def figure(page, name):
    root = page.locator(f"[data-own={name}][data-ready]")
    root.wait_for()
    return root


def fill(root, *values):
    for field, value in zip(root.locator("input").all(), values, strict=False):
        field.fill(str(value))


def said(root):
    """The numbers of a figure's sentence, and the sentence."""
    sentence = root.locator(".explorable-readout").inner_text()
    assert root.locator("svg").get_attribute("aria-label") == sentence
    return [float(each) for each in re.findall(r"-?\d+(?:\.\d+)?", sentence.replace("\u2212", "-"))], sentence


@pytest.mark.parametrize("values", [[1, 2, 6], [-1e6, 1e6], [0.1, 0.1, 0.2, -3, 7, 100]], ids=str)
def test_a_batch_of_the_readers_is_normalised(numbers, values):
    root = figure(numbers, "one_batch")
    fill(root, *values, *[""] * (6 - len(values)))
    (mean, sigma, *hat), _ = said(root)
    x = torch.tensor(values, dtype=torch.float64)[:, None]
    torch.testing.assert_close(torch.tensor(hat).double(), normalize(x, 0).flatten(), rtol=0, atol=0.006)
    assert [mean, sigma] == pytest.approx([x.mean().item(), x.std(correction=0).item()], abs=0.006)


def test_the_company_decides_and_has_a_limit(numbers):
    root = figure(numbers, "company")
    fill(root, 5, 1, 1, 1, "", "")
    (count, value, hat, _, limit), _ = said(root)
    assert (count, value) == (4, 5) and hat == limit == pytest.approx(3**0.5, abs=0.006)
    fill(root, 5, 100)
    assert said(root)[0][2] < 0


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("one_batch", [1, "", "", "", "", ""], "Type two numbers or more"),
        ("one_batch", [2, 2, 2, "", "", ""], "All values are the same"),
        ("company", ["", 1, 2], "Type a value of your own first."),
        ("projection", [1, 1, 1, 1, 2, 3], "All values are the same"),
        ("sigmoid_range", [0, 1], "With γ = 0 they all become the same."),
        ("sigmoid_range", [0.1, 7], "It is flat there"),
        ("sigmoid_range", [6, 0], "It is bent there"),
        ("sigmoid_range", [1, 0], "It is not far from a straight line there."),
    ],
)
def test_numbers_that_make_no_batch_are_told(numbers, name, values, sentence):
    root = figure(numbers, name)
    fill(root, *values)
    assert sentence in said(root)[1]
    assert "NaN" not in root.locator("svg").inner_html()


@pytest.mark.parametrize(("x", "g"), [([-1, 0, 2], [1, -1, 2]), ([3, -5, 0.5], [0, 4, 0]), ([1, 2, 4], [2, 4, 8])])
def test_what_gets_through_is_what_autograd_gives(numbers, x, g):
    root = figure(numbers, "projection")
    fill(root, *x, *g)
    batch = torch.tensor(x, dtype=torch.float64)[:, None].requires_grad_()
    normalize(batch, 0).backward(torch.tensor(g, dtype=torch.float64)[:, None])
    expected = batch.grad.flatten() * batch.detach().std(correction=0)
    torch.testing.assert_close(torch.tensor(said(root)[0][:3]).double(), expected, rtol=0, atol=0.006)


@pytest.mark.parametrize(
    ("name", "field", "by"), [("one_batch", 1, (60, 0)), ("sigmoid_range", 1, (50, 0)), ("projection", 3, (0, 30))]
)
def test_a_dot_is_dragged(browser, address, name, field, by):
    with visiting(browser, address) as page:
        root = figure(page, name)
        root.scroll_into_view_if_needed()
        box = root.locator(f"[data-field='{field}'] .dot").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        before = float(root.locator("input").nth(field).input_value())
        sentence = said(root)[1]
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + by[0], y + by[1], steps=5)
        page.mouse.up()
        page.mouse.move(x, y)  # released
        after = float(root.locator("input").nth(field).input_value())
        assert (after > before) if by[0] else (after < before)
        assert said(root)[1] != sentence


# --- the chapter -----------------------------------------------------------------------------------------------------


def test_every_link_of_the_chapter_is_a_whole_composition():
    cells = nbformat.read(ROOT / "chapters" / "playground.ipynb", as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    links = [html.unescape(each) for each in re.findall(r'<a href="#([^"]*)">', text)]
    assert len(links) > 10
    for link in links:
        name, _, words = link.partition("?")
        told = dict(pair.split("=") for pair in words.split("&"))
        assert name == composing.NAME and list(told) == list(CONTROLS)
        assert all(word in map(CONTROLS[each].word, CONTROLS[each].values) for each, word in told.items())
        chosen = {
            each: value for each in told for value in CONTROLS[each].values if CONTROLS[each].word(value) == told[each]
        }
        assert not trouble(**chosen) and compose(**chosen)
