"""Autobahn|Testsuite's fuzzing client through Sheave to npm's ws, and straight to it, case by case.

Decides whether the verdicts are those of expected.tsv. README.md says how to read the outcome.
"""

import argparse
import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import install

HERE = pathlib.Path(__file__).parent
EXPECTED = HERE / "expected.tsv"
UNCOMPRESSED = "1-7,9,10"
WAYS = ("straight", "through")
KINDS = ("OK", "NON-STRICT", "INFORMATIONAL", "FAILED")


def groups(text):
    """`1-7,9` as numbers."""
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def number(case):
    return [int(part) for part in case.split(".")]


def read_expected():
    """Verdicts that may come, straight and through Sheave, and why these two differ, by case."""
    expected = {}
    for line in EXPECTED.read_text().splitlines():
        if line and not line.startswith("#"):
            case, straight, through, why = (line.split("\t") + [""])[:4]
            if straight != through and not why:
                sys.exit(f"{EXPECTED.name}: {case} expects another verdict through Sheave and does not say why")
            expected[case] = (straight, through, why)
    return expected


def learn(expected, seen):
    """Writes what was seen, but for the cases about which a person wrote a word."""
    for case, (straight, through) in seen.items():
        if not expected.get(case, ("", "", ""))[2]:
            expected[case] = (straight, through, "")
    head = [line for line in EXPECTED.read_text().splitlines() if line.startswith("#")]
    rows = ["\t".join((case, *expected[case])).rstrip() for case in sorted(expected, key=number)]
    EXPECTED.write_text("\n".join(head + rows) + "\n")


class Servers:
    """The echo server and Sheave before it, on ports of their own choice, until the end of a `with`."""

    def __init__(self, sheave, folder):
        self.sheave, self.folder, self.running = sheave, folder, []

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def start(self):
        echo = self.spawn("echo", ["node", HERE / "echo.js"], NODE_PATH=str(install.ws()))
        port = int(self.line_of(echo, lambda line: line.strip()))
        routes = self.folder / "routes"
        routes.mkdir()
        (routes / "route.yaml").write_text((HERE / "route.yaml").read_text().replace("PORT", str(port)))
        free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]
        sheave = self.spawn("sheave", [self.sheave, "serve", routes, *free])
        serving = json.loads(self.line_of(sheave, lambda line: '"message":"serving"' in line))
        return port, int(serving["listen"].strip("[]").rpartition(":")[2])

    def spawn(self, name, command, **variables):
        log = (self.folder / f"{name}.log").open("w")
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **variables})
        self.running.append((name, process))
        return name, process

    def line_of(self, server, wanted):
        """The first line of its log that is `wanted`; the run ends when there is none within a minute."""
        name, process = server
        log = self.folder / f"{name}.log"
        for _ in range(600):
            whole = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
            for line in filter(wanted, whole):
                return line
            if process.poll() is not None:
                break
            time.sleep(0.1)
        sys.exit(f"conformance: {name} did not start: {log.read_text()}")

    def stop(self):
        for _, process in reversed(self.running):
            process.terminate()
        for _, process in self.running:
            process.wait(timeout=30)

    def __exit__(self, *_):
        fallen = [f"{name} ({process.returncode})" for name, process in self.running if process.poll() is not None]
        self.stop()
        if fallen:
            sys.exit(f"conformance: ended by itself: {', '.join(fallen)}; the logs are in {self.folder}")


def client(way, port, chosen, folder):
    """Starts the suite's client. It says nothing by its exit status; its report does."""
    spec = {
        "outdir": str(folder / way),
        "servers": [{"agent": way, "url": f"ws://127.0.0.1:{port}"}],
        "cases": [f"{group}.*" for group in chosen],
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    path = folder / f"{way}.json"
    path.write_text(json.dumps(spec))
    log = (folder / f"{way}.log").open("w")
    return subprocess.Popen([install.suite(), "-m", "fuzzingclient", "-s", path], stdout=log, stderr=log)


def report(way, folder):
    path = folder / way / "index.json"
    return json.loads(path.read_text())[way] if path.is_file() else {}


def run(sheave, chosen, folder, bound):
    """Both clients at once, so that both meet the same machine. Gives the reports, straight and through."""
    clients = []
    with Servers(sheave, folder) as ports:
        try:
            clients += [client(way, port, chosen, folder) for way, port in zip(WAYS, ports)]
            for process in clients:
                process.wait(timeout=bound)
        except subprocess.TimeoutExpired:
            print(f"conformance: not done within {bound} s; the logs are in {folder}")
        finally:
            for process in clients:
                process.kill()
                process.wait()
    return [report(way, folder) for way in WAYS]


def verdict(row):
    return f"{row['behavior']}/{row['behaviorClose']}" if row else "not run"


def differences(expected, seen):
    """Lines about cases that did not come out as expected."""
    for case in sorted(expected.keys() | seen.keys(), key=number):
        if case not in expected:
            yield f"{case}: not in {EXPECTED.name}, seen {' and '.join(seen[case])}"
            continue
        for way, allowed, got in zip(WAYS, expected[case], seen.get(case, ("not run", "not run"))):
            if got not in allowed.split(" or "):
                yield f"{case} {way}: {got}, expected {allowed}"


def tell(reports, seen, expected, seconds):
    print(f"{len(seen)} cases, {seconds:.0f} s\n{'':10}" + "".join(f"{kind:>15}" for kind in KINDS))
    for way, rows in zip(WAYS, reports):
        counts = collections.Counter(row["behavior"] for row in rows.values())
        print(f"{way:10}" + "".join(f"{counts[kind]:15}" for kind in KINDS))
    slowest = sorted(reports[1], key=lambda case: -reports[1][case]["duration"])[:8]
    print("slowest through Sheave: " + ", ".join(f"{case} {reports[1][case]['duration'] / 1000:.1f} s" for case in slowest))
    for case in sorted(seen, key=number):
        straight, through = seen[case]
        if straight != through:
            why = expected.get(case, ("", "", ""))[2]
            print(f"{case}: straight {straight}, through Sheave {through}: {why or 'UNEXPLAINED'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sheave", required=True, help="the program under test")
    parser.add_argument("--cases", default=UNCOMPRESSED, help=f"groups of cases; {UNCOMPRESSED} unless given")
    parser.add_argument("--learn", action="store_true", help=f"write what is seen into {EXPECTED.name}")
    options = parser.parse_args()
    if not os.access(options.sheave, os.X_OK):
        parser.error(f"{options.sheave} is no program: build it first, as make conformance does")
    chosen = groups(options.cases)
    expected = read_expected()
    wanted = {case: row for case, row in expected.items() if number(case)[0] in chosen}

    install.suite(), install.ws()
    folder = install.CACHE / f"report-{options.cases}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    # Half a minute and half an hour on two free cores.
    bound = 7200 if {12, 13} & set(chosen) else 900
    reports = run(options.sheave, chosen, folder, bound)
    seconds = time.monotonic() - began

    seen = {case: tuple(verdict(rows.get(case)) for rows in reports) for case in {*reports[0], *reports[1]}}
    tell(reports, seen, wanted, seconds)
    if options.learn:
        learn(expected, seen)
        return 0
    wrong = list(differences(wanted, seen))
    for line in wrong:
        print(f"UNEXPECTED {line}; see {folder}")
    failed = {line.split()[0].strip(":") for line in wrong}
    print(f"{len(wanted.keys() - failed)} passed, {len(failed)} failed")
    return 1 if wrong or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
