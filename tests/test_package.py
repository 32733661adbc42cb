"""The package keeps its promises: imports go one way, pins are exact, functions are readable."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness.clone import copy_tree, run

import utils
from utils import claims

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "utils"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MODULES = [path for path in SOURCES if "fashion_mnist" not in path.parts]  # that is a script

# Imports go one way. A module's room is the folder that it lies in, or its own name, or the engine.
ROOMS = ("experiments", "claims", "reproduce", "figures", "explore", "playground", "style")
MAY_IMPORT = {  # of the package
    "engine": {"engine"},
    "experiments": {"engine", "experiments"},
    "claims": {"engine", "experiments", "claims"},
    "reproduce": {"engine", "experiments", "claims", "reproduce"},
    "style": {"engine", "style"},
    "explore": {"utils.progress", "style", "explore"},
    "playground": {"engine", "style", "explore", "playground"},
    "figures": {"engine", "experiments", "claims", "style", "explore", "figures"},
}
DRAWING = {"matplotlib", "PIL"}
INTERACTIVE = {"ipywidgets", "anywidget", "IPython", "traitlets", "ipykernel"}
MATHEMATICS = ("engine", "experiments", "claims", "reproduce")
FORBIDDEN = {**dict.fromkeys(MATHEMATICS, DRAWING | INTERACTIVE), "style": INTERACTIVE}
TRAINERS = {  # what no figure may import: it shows what an experiment found
    "utils.sweeps": {"sweep", "by_arm"},
    "utils.observe": {"observe"},
    "utils.training": {"train", "train_seeds", "train_all", "updates", "updates_together"},
}
LONGEST = 60

PIN = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!]+)")


def name_of(path):
    return str(path.relative_to(ROOT))


every_source = pytest.mark.parametrize("path", SOURCES, ids=name_of)
every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


def room_of(name):
    """The room of a dotted name of the package, such as `utils.figures.intro.Drawing`."""
    second = [*name.split("."), "engine"][1]
    return second if second in ROOMS else "engine"


def module_of(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def imports(source, module):
    """Every dotted name that the source of `module` imports; a star is its last part."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            origin = ".".join(package + ([node.module] if node.module else []))
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def wrong_imports(source, module):
    """The imports that the package's rules forbid in the source of `module`."""
    room = room_of(module)
    for name in imports(source, module):
        parts = name.split(".")
        inside = {room_of(name), ".".join(parts[:2])} & MAY_IMPORT[room]
        if (module, name) == ("utils.claims.__main__", "utils.style.between"):  # a number's looks
            continue
        if (
            {"pyplot", "pylab"} & set(parts)
            or parts[-1] == "*"
            or parts[0] in FORBIDDEN.get(room, ())
            or (parts[0] == "utils" and not inside)
            or (room == "figures" and trains(name))
        ):
            yield name


def trains(name):
    """Whether a dotted name is something that trains, or a module that has such things in it."""
    module, _, last = name.rpartition(".")
    return name in TRAINERS or last in TRAINERS.get(module, ())


def definitions(path):
    """The public functions and classes at the top of a module."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [node for node in body if isinstance(node, kinds) and not node.name.startswith("_")]


def pins(text):
    """The pins of a requirements file: name to version. Comments are left out."""
    found = (PIN.match(line) for line in text.splitlines())
    return {re.sub("[-_.]+", "-", pin["name"]).lower(): pin["version"] for pin in found if pin}


@every_source
def test_imports_go_one_way(path):
    assert not list(wrong_imports(path.read_text(encoding="utf-8"), module_of(path)))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("utils.batchnorm", "import matplotlib.figure"),
        ("utils.batchnorm", "def f():\n    from IPython.display import display"),
        ("utils.batchnorm", "from utils.style import figure"),
        ("utils.batchnorm", "from utils import style"),
        ("utils.batchnorm", "from . import explore"),
        ("utils.training", "from utils.experiments.intro import RATES"),
        ("utils.experiments.trial", "from utils.claims import above"),
        ("utils.experiments.trial", "from utils.style import per_cent"),
        ("utils.experiments.trial", "import PIL.Image"),
        ("utils.claims.trial", "from utils.figures import trial"),
        ("utils.claims.trial", "from utils.style import between"),
        ("utils.claims.__main__", "from utils.style import figure"),
        ("utils.style", "import ipywidgets as w"),
        ("utils.style", "from .explore import View"),
        ("utils.style", "from matplotlib import pyplot as plt"),
        ("utils.explore", "import matplotlib.pyplot"),
        ("utils.explore.page", "from utils.training import Settings"),
        ("utils.explore.page", "from utils.figures.trial import scene"),
        ("utils.figures.trial", "from utils.data import *"),
        ("utils.figures.trial", "from utils.training import train_all"),
        ("utils.figures.trial", "def f():\n    from utils.sweeps import by_arm"),
        ("utils.figures.trial", "from utils import observe"),
    ],
)
def test_a_wrong_import_is_seen(module, source):
    assert list(wrong_imports(source, module))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("utils.training", "from utils import data, networks"),
        ("utils.experiments.trial", "from utils.training import train_all\nfrom utils.experiments import other"),
        ("utils.claims.trial", "from utils.experiments import trial\nfrom utils import intervals"),
        ("utils.claims.__main__", "from utils.style import between"),
        ("utils.style", "from matplotlib.figure import Figure\nfrom utils.data import digits"),
        (
            "utils.explore.live",
            "import anywidget\nfrom utils.style import figure\nfrom utils import progress",
        ),
        (
            "utils.figures.trial",
            "from ..explore import explore\nfrom . import other\nfrom ..experiments import trial",
        ),
        ("utils.figures.trial", "from utils.training import SEEDS, Settings, trained\nfrom utils.claims import ledger"),
    ],
)
def test_a_right_import_is_let_through(module, source):
    assert not list(wrong_imports(source, module))


def test_mathematics_brings_in_no_pictures_and_no_widgets():
    names = [module_of(path) for path in MODULES if room_of(module_of(path)) in MATHEMATICS]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith(".__main__")]
    unwanted = DRAWING | INTERACTIVE
    code = f"import sys, {', '.join(names)}\nprint(*sorted({unwanted!r} & set(sys.modules)))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert (child.returncode, child.stdout.split()) == (0, []), child.stderr


@pytest.mark.parametrize("room", ["experiments", "claims", "figures"])
def test_a_subject_has_one_name_everywhere(room):
    subjects = {path.stem for path in (PACKAGE / room).glob("*.py") if not path.stem.startswith("_")}
    pages = {path.stem for path in (ROOT / "chapters").glob("*.ipynb")}
    assert set(claims.CHAPTERS) <= subjects & pages


def test_the_first_controls_of_the_book_do_not_wait_for_torch():
    code = "import sys, utils.figures.intro; print('torch' in sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert child.stdout.split() == ["False"], child.stderr


def test_utils_is_this_repositorys(tmp_path):
    assert Path(utils.__file__).resolve() == PACKAGE / "__init__.py"
    code = "import utils; print(utils.__file__)"  # from another folder, as a kernel does
    child = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert Path(child.stdout.decode().strip()).resolve() == PACKAGE / "__init__.py", child.stderr


def test_every_pin_is_exact_and_of_no_one_machine():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.strip() and not line.startswith("#")]
    assert lines.pop() == "-e ."
    assert lines
    assert not [line for line in lines if not PIN.fullmatch(line)]  # also no index line, no +cpu


def test_requirements_txt_holds_every_pin_of_requirements_in():
    wanted = pins((ROOT / "requirements.in").read_text(encoding="utf-8"))
    found = pins((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    assert len(wanted) > 10
    assert wanted == {name: found.get(name) for name in wanted}


def test_requirements_in_pins_every_line():
    lines = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    lines = [line.split("#")[0].strip() for line in lines]
    assert not [line for line in lines if line and not PIN.fullmatch(line)]


def unnamed_encodings(source):
    """The lines that read or write text in the encoding that this machine happens to have."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and "encoding" not in (given := {each.arg: each.value for each in node.keywords}):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            mode = given.get("mode", ([*node.args, None, None])[isinstance(node.func, ast.Name)])
            text = mode is None or (
                isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" not in mode.value
            )
            opens = name == "open" and text and ast.unparse(node.func) != "Image.open"
            if opens or name in ("read_text", "write_text") or {"text", "universal_newlines"} & set(given):
                yield node.lineno


OWN = [path for folder in ("utils", "_ext", "tests", "bench", "binder") for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("path", OWN, ids=name_of)
def test_text_is_utf_8_on_every_machine(path):
    assert not list(unnamed_encodings(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("path.read_text()", True),
        ("path.write_text(text)", True),
        ("path.open('w')", True),
        ("open(path, 'w')", True),
        ("subprocess.run(command, text=True)", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.open('rb')", False),
        ("open(path, 'wb')", False),
        ("Image.open(path)", False),
    ],
)
def test_a_text_in_this_machines_encoding_is_seen(source, seen):
    assert bool(list(unnamed_encodings(source))) == seen


@every_module
def test_functions_of_mathematics_show_an_example(path):
    if room_of(module_of(path)) in MATHEMATICS and path.stem != "__main__":
        functions = [node for node in definitions(path) if not isinstance(node, ast.ClassDef)]
        assert not [node.name for node in functions if ">>>" not in (ast.get_docstring(node) or "")]
        assert not [node.name for node in functions if ">>> callable(" in ast.get_docstring(node)], "shows nothing"


@every_source
def test_functions_fit_a_screen(path):
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert not {name: lines for name, lines in long.items() if lines > LONGEST}


TRAIN = """import json
from utils import cache, claims, experiments, explore, figures
from utils.training import Settings, train
run = train(Settings(data="fashion", depth=1, width=2, steps=1, examples=60), 0)
print(json.dumps([cache.__file__, str(cache.ROOT), len(run.loss), str(cache._home())]))
"""


def test_installed_without_the_book_it_trains_and_keeps_its_runs_in_the_users_cache(tmp_path):
    """A wheel holds its data, and nothing is written beside it."""
    source, site, home = copy_tree(tmp_path / "source"), tmp_path / "site", tmp_path / "home"
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site, source]
    installed = run(tmp_path, sys.executable, *pip)
    assert installed.returncode == 0, installed.stdout
    before = set(site.rglob("*"))
    own = {"BOOK_RUNS": "", "XDG_CACHE_HOME": str(home), "HOME": str(home), "PYTHONPATH": str(site)}
    trained = run(tmp_path, sys.executable, "-c", TRAIN, **own)
    assert trained.returncode == 0, trained.stdout
    file, root, steps, runs = json.loads(trained.stdout.splitlines()[-1])
    assert (Path(file).parent, Path(root), steps) == (site / "utils", site, 1)
    assert home in Path(runs).parents and list(Path(runs).rglob("utils.training.train/**/*.pkl"))
    assert set(site.rglob("*")) == before
