"""Run type checkers on mistakes.py, whose lines `# wrong` they have to flag, and on right.py,
of which none. Usage: python tests/typing/check.py [mypy] [pyright], those that are installed."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
SCRIPTS = ("mistakes.py", "right.py")


def mypy():
    """{(script, line): message} of its errors."""
    command = [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent"]
    command += ["--ignore-missing-imports", "--no-error-summary", *(FOLDER / s for s in SCRIPTS)]
    done = subprocess.run(
        command, cwd=FOLDER, env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode > 1:
        raise RuntimeError(done.stderr or done.stdout)
    found = re.findall(r"^(.*?\.py):(\d+): error: (.*)$", done.stdout, re.M)
    return {(Path(path).name, int(line)): message for path, line, message in found}


def pyright():
    """{(script, line): message} of its errors; RuntimeError where it does not start."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    command += [f"tests/typing/{script}" for script in SCRIPTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise RuntimeError(done.stderr or done.stdout) from None
    return {
        (Path(entry["file"]).name, line + 1): entry["message"]
        for entry in report["generalDiagnostics"]
        if entry["severity"] == "error"
        for line in range(entry["range"]["start"]["line"], entry["range"]["end"]["line"] + 1)
    }


def differences(checker):
    """What the checker misses and what it flags without reason, a line of text each."""
    flagged, wrong = checker(), {}
    for script in SCRIPTS:
        for number, line in enumerate((FOLDER / script).read_text().splitlines(), 1):
            if line.endswith("# wrong"):
                wrong[script, number] = line
    missed = [f"{s}:{n}: missed: {wrong[s, n]}" for s, n in sorted(wrong.keys() - flagged.keys())]
    return missed + [
        f"{s}:{n}: flagged: {flagged[s, n]}" for s, n in sorted(flagged.keys() - wrong.keys())
    ]


def main():
    names = sys.argv[1:] or [n for n in ("mypy", "pyright") if importlib.util.find_spec(n)]
    lines = [f"{name}: {text}" for name in names for text in differences(globals()[name])]
    print(*lines, f"{', '.join(names)}: {len(lines)} differences", sep="\n")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
