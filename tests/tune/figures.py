"""What tuning takes and gains: ``python -m tests.tune.figures [--json]``.

200 settings on an hour at ten frames a second, in both modes, with scores as a camera's flicker;
and the recordings of ``tests.tune.noisy``, tuned on one seed and judged on others, and tuned on all
but one and judged on that. Takes about four minutes. Exits with 1 where a goal is missed.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from device import config
from device.config import Decide
from device.tune.judge import Verdict
from device.tune.recordings import Bench, Stream, read_streams
from device.tune.search import search
from tests.tune import made, noisy

GOAL_S = 60.0
HOUR_S = 3600.0
SEED, OTHERS = 1, (2, 3, 4, 5)
MODEL = config.Model(threads=1)


def speed(folder: Path, mode: str) -> dict[str, Any]:
    """An hour of 409 labels, of which a score of one flickers up in every second frame."""
    settings = config.Config(
        model=config.Model(name="made"),
        decide=Decide(mode=mode),  # type: ignore[arg-type]
    )
    begun_at = time.perf_counter()
    bench = Bench(read_streams([folder], settings), settings.decide)
    read_s = time.perf_counter() - begun_at
    ranked = search(settings.decide, bench.judge)
    took_s = time.perf_counter() - begun_at - read_s
    frames = len(bench.streams[0].series.at_s)
    kept = (folder / "recorded.scores").stat().st_size / 1e6
    return {
        "mode": mode,
        "settings": len(ranked),
        "frames": frames,
        "read_s": round(read_s, 1),
        "tune_s": round(took_s, 1),
        "scores_mb": round(kept, 1),
    }


def hour(folder: Path) -> Path:
    """The recording of ``speed``."""
    names = (*made.NAMES, *(f"label {number}" for number in range(406)))
    return made.make(folder, made.intervals(280), names=names, length_s=HOUR_S)


def told(verdict: Verdict) -> str:
    """A verdict in a line."""
    return (
        f"{verdict.found}/{verdict.true} found, {verdict.false} false, median "
        f"{max(0.0, verdict.median_s):.2f} s, 95 % {verdict.p95_s:.2f} s"
    )


def quality(folder: Path) -> tuple[dict[str, str], Verdict]:
    """Verdicts on the noisy recording by what was judged, and that of the best settings."""
    settings = config.Config(model=MODEL)
    benches: dict[int, Bench] = {}
    streams: dict[int, list[Stream]] = {}
    for seed in (SEED, *OTHERS):
        noisy.make(folder / f"seed {seed}", seed)
        # Among several, each stream has a name of its own.
        streams[seed] = [
            stream._replace(name=f"seed {seed}")
            for stream in read_streams([folder / f"seed {seed}"], settings)
        ]
        benches[seed] = Bench(streams[seed], settings.decide)
    ranked = search(settings.decide, benches[SEED].judge)
    best = ranked[0].settings
    lines = {}
    for seed, bench in benches.items():
        tuned, now = bench.judge([best, settings.decide])
        on = f"seed {seed}{', tuned on' if seed == SEED else ', held out'}"
        lines[f"{on}: tuned"] = told(tuned)
        lines[f"{on}: as configured"] = told(now)
        lines[f"{on}: naive top-1"] = told(bench.verdict(dict(bench.naive())))
    for seed, bench in benches.items():
        others = [one for other, some in streams.items() if other != seed for one in some]
        joint = search(settings.decide, Bench(others, settings.decide).judge)[0].settings
        lines[f"seed {seed}, held out: all others"] = told(bench.judge([joint])[0])
    return lines, ranked[0].verdict


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.tune.figures", description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        recording = hour(Path(place) / "hour")
        speeds = [speed(recording, mode) for mode in ("one", "any")]
        lines, best = quality(Path(place))
    goals = {
        f"an hour × 200 settings in {GOAL_S:g} s": all(
            one["tune_s"] + one["read_s"] <= GOAL_S for one in speeds
        ),
        "19 of 20 found, 0 false, median 0.5 s": best.found >= 19
        and not best.false
        and best.median_s <= 0.5,
    }
    if options.json:
        print(msgspec.json.encode({"speed": speeds, "noisy": lines, "goals": goals}).decode())
    else:
        for one in speeds:
            print(one)
        for name, line in lines.items():
            print(f"{name:36} {line}")
        for goal, met in goals.items():
            print(f"{'met' if met else 'MISSED'}: {goal}")
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
