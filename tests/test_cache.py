"""Runs: counted, cancelled, kept whole or not at all, and made anew when the code that runs is another."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.clone import ROOT, run

from utils import cache
from utils.progress import Cancelled, progress_range, report_progress

# A kept function that says when it works; while it is written to disk it may kill its process.
KEPT = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from utils.cache import cached

class Fragile:
    def __init__(self, lethal): self.lethal = lethal
    def __reduce__(self):
        if self.lethal: os.kill(os.getpid(), signal.SIGKILL)
        return Fragile, (False,)

@cached
def work(n):
    with Path("worked").open("a") as file: file.write("x")
    time.sleep(float(os.environ.get("SLOW", 0)))
    return np.arange(n), Fragile("LETHAL" in os.environ), np.ones(n)

print(work(100_000)[0].sum())
"""


# In place of torch, which takes two seconds to import.
TORCH = """__version__, Generator = "1", object
class backends:
    class cpu:
        get_cpu_capability = staticmethod(lambda: "AVX2")
"""


@pytest.fixture
def work(tmp_path):
    """Run the kept function in a process of its own: how it ended, what it said, how often it worked till now."""
    (tmp_path / "kept.py").write_text(KEPT, encoding="utf-8")
    (tmp_path / "torch.py").write_text(TORCH, encoding="utf-8")

    def start(**settings):
        own = {"BOOK_RUNS": str(tmp_path / "runs"), "PYTHONPATH": str(ROOT), **settings}
        ended = run(tmp_path, sys.executable, "kept.py", **own)
        worked = (tmp_path / "worked").read_text(encoding="utf-8")
        return ended.returncode, ended.stdout.split()[-1:], len(worked)

    return start


def test_a_run_is_computed_once(work):
    assert work() == (0, ["4999950000"], 1)
    assert work() == (0, ["4999950000"], 1)


def test_of_two_processes_that_want_the_same_one_computes_and_the_other_waits(work, tmp_path):
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: work(SLOW="1")[:2], range(2)))
    assert both == [(0, ["4999950000"])] * 2
    assert (tmp_path / "worked").read_text(encoding="utf-8") == "x"
    assert not list((tmp_path / "runs").rglob("*.lock"))


def test_after_a_killed_run_nobody_waits_for_it(work):
    assert work(LETHAL="yes")[0] == -signal.SIGKILL
    assert work()[0] == 0


def test_who_waits_for_another_process_hears_whether_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_RUNS", str(tmp_path))

    def listen(done, total):
        raise Cancelled

    with cache._turn(tmp_path / "run.pkl"):
        with pytest.raises(Cancelled), report_progress(listen), cache._turn(tmp_path / "run.pkl"):
            pass
        with cache._turn(tmp_path / "another.pkl"):
            pass


def test_a_killed_run_leaves_no_half_result(work):
    assert work(LETHAL="yes")[0] == -signal.SIGKILL
    assert work() == (0, ["4999950000"], 2)
    assert work() == (0, ["4999950000"], 2)


@pytest.mark.parametrize("whole", [0, 0.5])
def test_a_damaged_result_is_computed_again(work, tmp_path, whole):
    work()
    (result,) = (tmp_path / "runs").rglob("*.pkl")
    content = result.read_bytes()
    result.write_bytes(content[: int(whole * len(content))])
    assert work() == (0, ["4999950000"], 2)
    assert work() == (0, ["4999950000"], 2)


def test_a_function_of_no_module_of_the_package_is_its_own_code(work, tmp_path):
    work()
    script = tmp_path / "kept.py"
    script.write_text(script.read_text(encoding="utf-8").replace("arange(n)", "arange(n) + 1"), encoding="utf-8")
    assert work() == (0, ["5000050000"], 2)


# --- the key ---------------------------------------------------------------------------------------------------------


def test_a_run_depends_on_what_its_function_names_and_on_nothing_else():
    found = cache.dependencies("utils.training", "train_seeds")
    assert {("utils.batchnorm", "_TrainingStep"), ("utils.data", "SHA256"), ("utils.norms", "lp_size")} <= found
    assert not {name for module, name in found if module == "utils.training"} & {"train", "trained", "weights"}
    assert {module for module, _ in found}.isdisjoint({"utils.cache", "utils.observe", "utils.style"})


TOY = {
    "deep": '"""What is shared."""\n\n\ndef factor():\n    """Two."""\n    return 2\n',
    "aside": "X = 1\n",
    "toy": """from utils.deep import factor
from utils.cache import cached

@cached
def double(x):
    print("computed", end=" ")
    return factor() * x
""",
}


@pytest.fixture
def package(tmp_path):
    """A package `utils` with two modules more: the one that a run depends on, `deep`, and one that it does not."""
    (tmp_path / "utils").mkdir()
    for name in ("__init__", "cache", "seeds"):
        (tmp_path / "utils" / f"{name}.py").write_bytes((cache.PACKAGE / f"{name}.py").read_bytes())
    (tmp_path / "torch.py").write_text(TORCH, encoding="utf-8")
    for name, source in TOY.items():
        (tmp_path / "utils" / f"{name}.py").write_text(source, encoding="utf-8")
    return tmp_path


def told(package, code, **settings):
    """What a fresh process says that runs this code."""
    own = {"BOOK_RUNS": str(package / "runs"), "PYTHONDONTWRITEBYTECODE": "", **settings}
    ended = run(package, sys.executable, "-c", code, **own)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout.strip()


def edit(package, name, old, new):
    file = package / "utils" / f"{name}.py"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


FRESH = "from utils.toy import double; print(double(3))"
EDIT = """
from pathlib import Path
def edit(old, new, name="deep"):
    file = Path("utils", name + ".py")
    file.write_text(file.read_text().replace(old, new))
"""


def test_the_key_is_that_of_the_code_that_runs(package):
    """A file of the same length is written while the old one is loaded, and before the run's own module is."""
    old = told(package, EDIT + 'import utils.deep\nedit("return 2", "return 5")\n' + FRESH)
    assert old == "computed 6"
    assert told(package, FRESH) == "computed 15"
    assert told(package, FRESH) == "15"
    edit(package, "deep", "return 5", "return 2")
    assert told(package, FRESH) == "6"


RELOADS = """
import importlib, utils.deep, utils.toy
from utils.toy import double
print(double(3), end="; ")
edit("return 2", "return 5")
importlib.reload(utils.deep)
print(double(3), end="; ")                 # `toy` has the old factor still
importlib.reload(utils.toy)
print(double(3), utils.toy.double(3), end="; ")
edit("* x", "* x + 1", "toy")
before = utils.toy.double
importlib.reload(utils.toy)
print(before(3), utils.toy.double(3))
"""


def test_a_module_that_is_loaded_again_makes_new_keys(package):
    """Whatever mixture of old and new code runs: each result is computed by it, and no fresh process reads one."""
    assert told(package, EDIT + RELOADS) == ("computed 6; computed 6; computed computed 15 15; computed computed 15 16")
    assert told(package, FRESH) == "computed 16"
    edit(package, "toy", "* x + 1", "* x")
    assert told(package, FRESH) == "computed 15"


@pytest.mark.parametrize(
    ("name", "old", "new", "again"),
    [
        ("deep", "return 2", "# a comment\n    return (2)", False),
        ("deep", "Two.", "Twice as much.", False),
        ("deep", "What is shared.", "What both share.", False),
        ("aside", "X = 1", "X = 2", False),
        ("deep", "return 2", "return 2.0", True),
        ("deep", "def factor", "def other():\n    return 3\n\n\ndef factor", False),
        ("deep", "def factor", "print(end='')\n\n\ndef factor", True),
        ("toy", "@cached", "THREE = 3\n\n\n@cached", False),
        ("toy", "factor() * x", "x * factor()", True),
    ],
)
def test_a_change_of_what_a_run_depends_on_makes_a_new_key_and_no_other_change_does(package, name, old, new, again):
    assert told(package, FRESH) == "computed 6"
    edit(package, name, old, new)
    assert told(package, FRESH).startswith("computed") == again


@pytest.mark.parametrize(
    "source", ["from utils import deep", "import utils.deep", "def f():\n    from utils.deep import factor"]
)
def test_every_way_to_import_is_seen_and_what_is_imported_later_is_loaded(package, source):
    (package / "utils" / "new.py").write_text(source, encoding="utf-8")
    code = "from utils.cache import dependencies; print(*sorted({module for module, _ in dependencies('utils.new')}))"
    assert told(package, code) == "utils.deep utils.new"


def test_other_seeds_and_other_arithmetic_have_their_own_runs(package):
    (package / "torch.py").unlink()
    settings = {"BOOK_FIRST_SEED": "0", "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "AUTO"}
    assert told(package, FRESH, **settings) == "computed 6"
    for change in ({"BOOK_FIRST_SEED": "10"}, {"ATEN_CPU_CAPABILITY": "avx2"}, {"MKL_CBWR": "COMPATIBLE"}):
        assert told(package, FRESH, **{**settings, **change}) == "computed 6"
    assert told(package, FRESH, **settings) == "6"


@pytest.mark.parametrize("name", ["torch", "numpy"])
def test_other_versions_have_their_own_runs(package, name):
    assert told(package, FRESH) == "computed 6"
    assert told(package, f"import {name}; {name}.__version__ = 'another'; {FRESH}") == "computed 6"


def test_the_names_of_arguments_and_their_defaults_make_no_difference(package):
    edit(package, "toy", "def double(x)", "def double(x, y=0)")
    calls = "from utils.toy import double; print(double(3), double(x=3), double(y=0, x=3), double(3, 1))"
    assert told(package, calls) == "computed computed 6 6 6 6"


def test_a_worker_uses_the_code_that_it_loaded_itself(package):
    """Its file was edited since: what a worker computes by the new code is kept as the new code's."""
    lines = ["from joblib import Parallel, delayed", "from utils.toy import double", 'edit("return 2", "return 5")']
    lines += ["print(*Parallel(2)([delayed(double)(x) for x in (3, 4)]), double(3))"]
    assert told(package, EDIT + "\n".join(lines)).split()[-3:] == ["15", "20", "6"]
    assert told(package, FRESH) == "15"


# --- where runs lie --------------------------------------------------------------------------------------------------


def generations(package):
    return list((package / "runs" / "utils.toy.double").iterdir())


def test_the_generations_last_used_stay(package):
    for number in range(3):
        edit(package, "deep", f"return {number + 2}", f"return {number + 3}")
        assert told(package, FRESH) == f"computed {3 * (number + 3)}"
    for age, generation in enumerate(sorted(generations(package), key=lambda each: each.stat().st_mtime)):
        os.utime(generation, (0, age))  # 3, 4 and 5 in this order
    edit(package, "deep", "return 5", "return 3")
    assert told(package, FRESH) == "9"  # is used, and so the newest
    for number in (6, 7):
        edit(package, "deep", "return 3" if number == 6 else "return 6", f"return {number}")
        told(package, FRESH)
    assert len(generations(package)) == cache.GENERATIONS == 3
    edit(package, "deep", "return 7", "return 3")
    assert told(package, FRESH) == "9"
    for seed in range(4):  # other seeds are no other generation
        assert told(package, FRESH, BOOK_FIRST_SEED=str(seed + 1)) == "computed 9"
    assert told(package, FRESH) == "9"
    assert len(generations(package)) == cache.GENERATIONS


def test_whose_runs_are_removed_meanwhile_computes_them_again(package):
    lines = ["import shutil", "from utils.toy import double", "print(double(3))", "shutil.rmtree('runs')"]
    lines += ["print(double(3), double(3))"]
    assert told(package, "\n".join(lines)).split() == ["computed", "6", "computed", "6", "6"]


def test_importing_writes_nothing(package):
    told(package, "import utils.toy")
    assert not (package / "runs").exists()


def test_runs_lie_in_the_book_else_in_the_users_cache(package):
    home = {"BOOK_RUNS": "", "XDG_CACHE_HOME": str(package / "cache"), "HOME": str(package / "home")}
    assert told(package, FRESH, **home) == "computed 6"
    assert not (package / "_build").exists()
    assert len(list(package.rglob("utils.toy.double/**/*.pkl"))) == 1
    (package / "_toc.yml").touch()
    assert told(package, FRESH, **home) == "computed 6"
    assert len(list((package / "_build" / "runs").rglob("utils.toy.double/**/*.pkl"))) == 1


TWICE = "from utils.toy import double; print(double(3), double(4), double(3))"


@pytest.mark.parametrize("home", ["/proc/runs", "file/runs"])
def test_where_nothing_can_be_written_it_computes_and_says_so_once(package, home):
    (package / "file").touch()
    said = told(package, TWICE, BOOK_RUNS=home)
    assert said.startswith("computed /") and said.endswith("computed computed 6 8 6")
    assert said.count(f"Runs are computed but not kept in {home}: ") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_where_the_disk_is_full_it_computes_and_leaves_no_part(package):
    full = "import joblib; dump = joblib.dump; joblib.dump = lambda *given, **how: (dump(*given, **how), fill())\n"
    full += "def fill():\n    with open('/dev/full', 'wb', buffering=0) as disk: disk.write(b'x')\n"
    said = told(package, full + TWICE)
    assert said.startswith("computed /") and said.endswith("computed computed 6 8 6")
    assert said.count(": No space left on device. BOOK_RUNS names another folder.") == 1
    assert not [each for each in (package / "runs").rglob("*") if each.is_file()]


# --- progress --------------------------------------------------------------------------------------------------------


def test_a_listener_hears_each_step_and_may_end_the_work():
    heard = []

    def listen(done, total):
        heard.append((done, total))
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled), report_progress(listen):
        list(progress_range(5))
    assert heard == [(0, 5), (1, 5), (2, 5)]
    assert list(progress_range(3)) == [0, 1, 2]  # nobody listens any more
    assert len(heard) == 3
