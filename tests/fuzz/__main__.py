"""Fuzzing: inputs of strangers by the million, and none may crash, hang or raise what it may not.

``python -m tests.fuzz --minutes 5`` gives each surface the same time; ``--inputs N`` shares so
many out by what each takes. Exit code 1 where an input did harm; it is then kept in the folder
of ``--keep``, and belongs into ``tests/fuzz/crashers`` once it is mended. The same seed makes the
same inputs.
"""

import argparse
import json
import math
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.fuzz.runner import Result, run
from tests.fuzz.surfaces import SURFACES

_INPUTS = 10_000
_FOUND = Path(tempfile.gettempdir()) / "labelcam-fuzz"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, help="for so long, over all surfaces")
    parser.add_argument("--inputs", type=int, help=f"so many, over all surfaces ({_INPUTS})")
    parser.add_argument(
        "--surface", action="append", choices=SURFACES, help="only this one; may be given again"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=_FOUND, metavar="FOLDER")
    parser.add_argument("--json", action="store_true", help="only the result, as JSON")
    options = parser.parse_args()
    names = list(dict.fromkeys(options.surface or SURFACES))
    shares = sum(SURFACES[name].share for name in names)
    inputs = options.inputs or (10**12 if options.minutes else _INPUTS)
    seconds = 60 * options.minutes / len(names) if options.minutes else math.inf
    results: dict[str, Result] = {}
    for name in names:
        found = options.keep / name
        found.mkdir(parents=True, exist_ok=True)
        results[name] = run(
            name,
            found,
            seed=options.seed,
            inputs=math.ceil(inputs * SURFACES[name].share / shares),
            seconds=seconds,
            seen=lambda result, name=name: _show(name, result),  # type: ignore[misc]
        )
        if not options.json:
            _show(name, results[name], end="\n")
    total = Result()
    for result in results.values():
        total.add(result)
    if options.json:
        surfaces = {name: asdict(result) for name, result in results.items()}
        print(json.dumps({"seed": options.seed, "surfaces": surfaces, "total": asdict(total)}))
    else:
        _show("all", total, end="\n")
    return 1 if total.bad or not total.inputs else 0


def _show(name: str, result: Result, end: str = "") -> None:
    """A line of a surface, which is written over while it is not the last."""
    if not end and not sys.stderr.isatty():
        return
    out = sys.stdout if end else sys.stderr
    print(
        f"\r{name:<12} {result.inputs:>9,} inputs  {result.seconds:7.1f} s  "
        f"{result.crashes} crashes  {result.hangs} hangs  {result.tracebacks} tracebacks ",
        end=end,
        file=out,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
