"""A JupyterLab of its own, and its menu."""

import json
import subprocess
import time
from contextlib import contextmanager

from .clone import ROOT, VENV, inside


@contextmanager
def lab(folder, home, **settings):
    """Start JupyterLab on `folder`, with all it keeps in `home`, and give the address of a notebook to fill in."""
    kinds = ("_CONFIG_DIR", "_DATA_DIR", "_RUNTIME_DIR", "LAB_SETTINGS_DIR", "LAB_WORKSPACES_DIR")
    places = {f"JUPYTER{kind}": str(home / kind) for kind in kinds}
    command = [VENV / "bin" / "jupyter", "lab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    command += ["--ServerApp.port=0", "--IdentityProvider.token=reader", "--LabApp.extension_manager=readonly"]
    environment = {**inside(ROOT, **settings), **places, "IPYTHONDIR": str(home)}
    with (home / "log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield f"{_address(server, home)}lab/tree/{{}}?reset&token=reader"
    finally:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:  # a kernel that a test has killed can hold it up
            server.kill()
            server.wait()


def _address(server, home):
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        for told in (home / "_RUNTIME_DIR").glob("jpserver-*.json"):
            if text := told.read_text(encoding="utf-8"):
                return json.loads(text)["url"]
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{(home / 'log').read_text(encoding='utf-8')[-3000:]}")


PROMPTS = "[...document.querySelectorAll('.jp-InputPrompt')].map(prompt => prompt.textContent)"


def start_all(page):
    """Wait for the notebook's kernel, and run all cells."""
    page.locator("#jp-main-statusbar").filter(has_text="(ipykernel) | Idle").wait_for(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def run_all(page):
    """Wait for the notebook's kernel, run all cells, and wait for their end."""
    start_all(page)
    page.wait_for_function(f"{PROMPTS}.some(text => /\\d/.test(text))", timeout=60_000)
    page.wait_for_function(f"{PROMPTS}.every(text => text !== '[*]:')", timeout=300_000)
