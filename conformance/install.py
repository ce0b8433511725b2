"""Installs what the conformance run needs below .cache/, once: the suite in a Python 2.7 of its own, and npm's ws.

Decides which Python 2.7 is used, not what is run with it.
"""

import glob
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
CACHE = HERE.parent / ".cache/conformance"
VIRTUALENV = "virtualenv==20.21.1"  # the last that makes environments of Python 2.7
WS = "ws@8.23.0"
IS_CPYTHON_27 = "import platform, sys, ssl; sys.exit((platform.python_implementation(), sys.version_info[:2]) != ('CPython', (2, 7)))"


def python27():
    """The CPython 2.7 that PYTHON27 names, else pyenv's, else that of the PATH."""
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    found = sorted(glob.glob(f"{pyenv}/versions/2.7.*/bin/python2.7"), reverse=True)
    for python in [os.environ.get("PYTHON27"), *found, shutil.which("python2.7"), shutil.which("python2")]:
        if python and subprocess.run([python, "-c", IS_CPYTHON_27], capture_output=True).returncode == 0:
            return python
    sys.exit(
        "conformance: no CPython 2.7 with ssl here, and Autobahn|Testsuite runs on nothing newer.\n"
        "Install one (pyenv install 2.7.18), or name one: PYTHON27=/path/to/python2.7 make conformance"
    )


def step(command, missing):
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    except FileNotFoundError as error:
        sys.exit(f"conformance: {error}: {missing}")
    if done.returncode != 0:
        sys.exit(f"conformance: {' '.join(map(str, command))} failed: {done.stdout}{done.stderr}\n{missing}")


def once(name, what, install):
    """Calls `install` with a fresh folder `name` unless a former run installed the very same there."""
    folder = CACHE / name
    note = folder / "installed"
    if not note.is_file() or note.read_text() != what:
        print(f"conformance: installing {name} below {CACHE}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install(folder)
        note.write_text(what)
    return folder


def suite():
    """The suite's program."""
    requirements = HERE / "requirements.txt"
    python = python27()

    def install(folder):
        missing = "the suite needs python3 with venv, and PyPI"
        step([sys.executable, "-m", "venv", folder / "tool"], missing)
        step([folder / "tool/bin/pip", "install", "--quiet", VIRTUALENV], missing)
        virtualenv = [folder / "tool/bin/virtualenv", "--quiet", "--no-periodic-update"]
        step([*virtualenv, "--python", python, folder / "py27"], missing)
        step([folder / "py27/bin/pip", "install", "--quiet", "--requirement", requirements], missing)

    folder = once("suite", f"{python}\n{VIRTUALENV}\n{requirements.read_text()}", install)
    return folder / "py27/bin/wstest"


def ws():
    """The folder that NODE_PATH has to name for npm's ws."""

    def install(folder):
        missing = "the echo server needs node and npm, and the npm registry"
        step(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, WS], missing)

    return once("ws", WS, install) / "node_modules"
