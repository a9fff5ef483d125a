"""The words that are decided on: a model's labels after groups, other names, and what is allowed.

Settings name a word by what it is called in the end, or by what ``decide.alias`` renames.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device.config import Decide
from device.errors import ConfigError
from device.events import OFF_DUTY, UNAVAILABLE
from device.pipeline.groups import Groups, Rollup, read_groups

Scores = NDArray[np.float32]


class Thresholds(NamedTuple):
    """The settings of each word, in their order; scores are float32, seconds float64."""

    enter: Scores
    exit: Scores
    min_hold_s: NDArray[np.float64]
    cooldown_s: NDArray[np.float64]


class Words:
    """Makes the scores of the words of those of a model's ``labels``.

    ``names`` are the words that may be said, ``known`` all that settings may name, and
    ``classes`` those that count as a word, with that word. Raises
    ConfigError for settings that contradict each other, leave no word, or name what is not there;
    of ``alias`` and ``label`` the last is passed over unless ``strict``.
    """

    def __init__(
        self,
        settings: Decide,
        labels: Sequence[str],
        groups: Groups | None = None,
        *,
        strict: bool = True,
    ) -> None:
        self._settings = settings
        self._strict = strict
        self.classes = {member: word for word, of in (groups or {}).items() for member in of}
        # Where each label comes and goes by itself, two classes of one name are one label.
        merges = settings.mode == "any" and len(set(labels)) < len(labels)
        self._rollup: Rollup | None = None
        words = tuple(labels)
        if groups or merges:
            whole = Rollup(labels, groups or {})
            # A class that is denied does not count in its word either.
            parts = set(settings.deny).intersection(labels).difference(whole.names)
            self._rollup = Rollup(labels, groups or {}, without=parts) if parts else whole
            words = self._rollup.names
        originals = dict.fromkeys((*words, *labels)) if self._rollup else dict.fromkeys(words)
        self._alias = self._read_alias(words, originals)
        words = tuple(self._alias.get(word, word) for word in words)
        self._all = dict.fromkeys(words)
        self.known = frozenset((*self._all, *self._alias))
        kept = self._kept(words, originals)
        self.names = tuple(words[row] for row in kept)
        # All words being kept is the usual case and needs no gathering.
        self._rows = np.array(kept, np.intp) if len(kept) < len(words) else None
        self._scores: Scores = np.zeros(len(kept), np.float32)

    def __call__(self, scores: Scores) -> Scores:
        """The scores of ``names``; the array may be written again by the next call."""
        if self._rollup is not None:
            scores = self._rollup(scores)
        if self._rows is None:
            return scores
        # mode="clip" spares the copy that the default makes of its output.
        return np.take(scores, self._rows, out=self._scores, mode="clip")

    def thresholds(self, settings: Decide) -> Thresholds:
        """What ``settings`` say of each of ``names``.

        Thresholds are rounded as the scores are: float32(0.7) < 0.7, and a label that is exactly
        at its threshold must not depend on that. Raises ConfigError.
        """
        count = len(self.names)
        found = Thresholds(
            np.full(count, settings.enter, np.float32),
            np.full(count, settings.exit, np.float32),
            np.full(count, settings.min_hold_s),
            np.full(count, settings.cooldown_s),
        )
        named: dict[str, str] = {}
        for entry, own in settings.label.items():
            word = self._find("label", entry)
            if word is None:
                continue
            if word in named:
                raise ConfigError("decide.label", f"{entry!r} and {named[word]!r} are one label")
            named[word] = entry
            for row, name in enumerate(self.names):
                if name == word:
                    for key, column in found._asdict().items():
                        if (value := getattr(own, key)) is not None:
                            column[row] = value
        return found

    def _read_alias(self, words: Sequence[str], originals: Iterable[str]) -> dict[str, str]:
        """The names that words get, by those that they have."""
        there, alias = dict.fromkeys(words), dict[str, str]()
        for word, name in self._settings.alias.items():
            if word in there:
                alias[word] = name
            elif self._strict:
                raise ConfigError(
                    "decide.alias", _unknown(word, originals, self._settings, self.classes)
                )
        called: dict[str, str] = {}
        for word in there:
            name = alias.get(word, word)
            if word in alias and name in (UNAVAILABLE, OFF_DUTY):
                raise ConfigError("decide.alias", f"{name!r} is what a camera without frames says")
            other = called.setdefault(name, word)
            if other != word:
                both = ", ".join(f'"{one}"' for one in sorted((word, other)))
                raise ConfigError(
                    "decide.alias",
                    f"{name!r} would be two labels; one word for several is a group: decide.groups "
                    f'is a file with the line "{name}" = [{both}]',
                )
        return alias

    def _kept(self, words: Sequence[str], originals: Iterable[str]) -> list[int]:
        """Rows of ``words`` that may be said."""
        chosen: dict[str, set[str]] = {"allow": set(), "deny": set()}
        for key, found in chosen.items():
            for entry in getattr(self._settings, key):
                word = self._find(key, entry, originals)
                if word is not None:
                    found.add(word)
        allow, deny = chosen["allow"], chosen["deny"]
        if both := sorted(allow & deny):
            raise ConfigError(
                "decide.deny", f"{both[0]!r} is in decide.allow too; keep one of them"
            )
        kept = [
            row
            for row, word in enumerate(words)
            if word not in deny and (not self._settings.allow or word in allow)
        ]
        if not kept:
            raise ConfigError("decide.deny", "names every label, so that none is left to report")
        return kept

    def _find(self, key: str, entry: str, originals: Iterable[str] = ()) -> str | None:
        """The word that an entry of ``decide.KEY`` means, None where it means none here."""
        if entry in self._all:
            return entry
        if entry in self._alias:
            return self._alias[entry]
        if key == "deny" and entry in originals:
            return None
        if key == "label" and not self._strict:
            return None
        raise ConfigError(f"decide.{key}", _unknown(entry, self._all, self._settings, self.classes))


def check_named(
    settings: Decide, known: Iterable[str], classes: Mapping[str, str] | None = None
) -> None:
    """Raise ConfigError where ``alias`` or ``label`` name what no camera knows.

    ``classes`` are those that count as a word, with that word.
    """
    known = set(known)
    named: dict[str, Mapping[str, object]] = {"alias": settings.alias, "label": settings.label}
    for key, entries in named.items():
        for entry in entries:
            if entry not in known:
                raise ConfigError(f"decide.{key}", _unknown(entry, known, settings, classes or {}))


def _unknown(entry: str, there: Iterable[str], settings: Decide, classes: Mapping[str, str]) -> str:
    """Why an entry means nothing, and what may have been meant."""
    if word := classes.get(entry):
        word = settings.alias.get(word, word)
        return f'{entry!r} counts as {word!r} here; name that, or set decide.groups = ""'
    if settings.groups == "auto" and settings.allow and entry in read_groups():
        return (
            f"{entry!r} is no label of the model but an everyday word; "
            'set decide.groups = "everyday"'
        )
    return f"{entry!r} is no label of the model{nearest(entry, there)}"


def nearest(entry: str, names: Iterable[str]) -> str:
    """``; did you mean …?`` with up to three labels, or nothing where none is near."""
    # Only someone about to read an error pays for this import.
    from difflib import get_close_matches

    folded = {name.casefold(): name for name in names}
    word = entry.casefold()
    # "cat" should find "tiger cat", which is too long to be a close match.
    near = [name for name in folded if word in name.replace("-", " ").split()]
    near += [name for name in get_close_matches(word, folded, cutoff=0.6) if name not in near]
    shown = [repr(folded[name]) for name in near[:3]]
    return f"; did you mean {' or '.join(shown)}?" if shown else ""
