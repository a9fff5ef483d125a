"""What the doctor found, for a terminal."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import msgspec
from rich.console import Console
from rich.text import Text

from device.system.text import printable

# The order in which they are told, with their colours.
_LEVELS = {"fail": "bold red", "warn": "yellow", "ok": "green", "n/a": "dim"}


class Result(msgspec.Struct, frozen=True):
    """One finding with its check's name, as JSON has it."""

    check: str
    level: str
    says: str
    mend: str


@contextmanager
def show_progress(console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """Show on stderr, where that is a terminal, the name of the check that is under way."""
    console = console or Console(stderr=True)
    with console.status("") if console.is_terminal else nullcontext() as status:
        yield lambda name: status.update(name) if status else None


def print_report(results: Sequence[Result]) -> None:
    """Print a line for each finding, the worst first, one for each reason not to apply, and a sum.

    Coloured where stdout is a terminal that has colours.
    """
    console = Console(soft_wrap=True, highlight=False, emoji=False)
    of = {level: [r for r in results if r.level == level] for level in _LEVELS}
    for level in ("fail", "warn", "ok"):
        for result in of[level]:
            mend = f"; {result.mend}" * bool(result.mend)
            _print_line(console, level, result.check, f"{result.says}{mend}")
    reasons: dict[str, list[str]] = {}
    for result in of["n/a"]:
        reasons.setdefault(result.says, []).append(result.check)
    for reason, checks in reasons.items():
        _print_line(console, "n/a", ", ".join(checks), reason)
    console.print(Text(_summary(of), "bold red" if of["fail"] else "bold"))


def _print_line(console: Console, level: str, name: str, said: str) -> None:
    line = Text(f"{level:5}", _LEVELS[level])
    console.print(line.append(f" {printable(f'{name:18} {said}')}"))


def _summary(of: dict[str, list[Result]]) -> str:
    wrong = [
        f"{len(of[level])} {word}"
        for level, word in (("fail", "failed"), ("warn", "to be better"))
        if of[level]
    ]
    checks = sum(map(len, of.values()))
    return f"{checks} checks: {', '.join(wrong) or 'all is well'}"
