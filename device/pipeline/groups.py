"""Everyday words for many classes: a group's score is the sum of its members' scores.

A picture of a dog spreads its score over twenty breeds, none of which is sure; the word
"dog" is. Groups are named after what a label file calls the classes (``groups.toml``). The group
with the empty name holds classes that are no words: what a sensor says where there is nothing.
"""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device import config
from device.errors import ConfigError
from device.system.files import read_file
from device.system.paths import MODELS

EVERYDAY = MODELS / "labels" / "groups.toml"

# The model that ships and is the default: its classes are those of the everyday words.
EMBEDDED = config.Model().name

_MAX_BYTES = 1 << 20

Groups = Mapping[str, Sequence[str]]
Scores = NDArray[np.float32]


def read_groups(path: Path = EVERYDAY) -> dict[str, tuple[str, ...]]:
    """The groups of a TOML file of ``word = ["label", …]`` lines, by name.

    Raises ConfigError for a file that cannot be read or is not of that form, and for a
    label that is in two groups: its score would count twice.
    """
    try:
        raw = tomllib.loads(read_file(path, _MAX_BYTES).decode())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"decide.groups: {path}", f"cannot be read as groups: {reason}") from None
    groups: dict[str, tuple[str, ...]] = {}
    owner: dict[str, str] = {}
    for name, members in raw.items():
        shown = name or '""'
        if not isinstance(members, list) or not all(isinstance(m, str) for m in members):
            raise ConfigError(
                f"decide.groups: {path}", f"{shown} is not a list of labels in quotes"
            )
        if not members:
            raise ConfigError(
                f"decide.groups: {path}", f"{shown} has no labels; add some or remove it"
            )
        for member in members:
            if member in owner:
                raise ConfigError(
                    f"decide.groups: {path}",
                    f"{member!r} is in {owner[member]} and again in {shown}",
                )
            owner[member] = shown
        groups[name] = tuple(members)
    return groups


def groups_for(decide: config.Decide, model: str, taught: Collection[str] = ()) -> Groups:
    """The groups that ``decide.groups`` puts in force where a camera looks with ``model``.

    "" is none, "everyday" the shipped file, "auto" that file for the embedded model where nothing
    is allowed by name, anything else a path. Labels that were ``taught`` are in none. Each file is
    read once. Raises ConfigError.
    """
    choice = groups_in_force(decide, model)
    groups = _read(EVERYDAY if choice == "everyday" else Path(choice)) if choice else {}
    if not taught:
        return groups
    return {word: [name for name in of if name not in taught] for word, of in groups.items()}


def groups_in_force(decide: config.Decide, model: str) -> str:
    """``decide.groups``, with what "auto" stands for where a camera looks with ``model``."""
    if decide.groups != "auto":
        return decide.groups
    return "everyday" if model == EMBEDDED and not decide.allow else ""


@cache
def _read(path: Path) -> Groups:
    return read_groups(path)


class Rollup:
    """Rolls the scores of a model's labels up to groups; a label in none stands for itself.

    ``names`` are the groups that have a label here, in their own order, and then the labels
    in no group, in theirs. Labels of one name, of two models, are summed as well.
    """

    def __init__(
        self, labels: Sequence[str], groups: Groups, without: Collection[str] = ()
    ) -> None:
        """Prepare for scores in the order of ``labels``; labels of other models do not count.

        Those of ``without`` count nowhere. A label file may list synonyms, as in
        ``tench, Tinca tinca``: the first one counts.
        Raises ConfigError where no label is left that is a word.
        """
        group_of = {member: name for name, members in groups.items() for member in members}
        rows: dict[str, list[int]] = {name: [] for name in groups}
        for row, label in enumerate(labels):
            if label in without:
                continue
            name = group_of.get(label, group_of.get(label.partition(",")[0], label))
            rows.setdefault(name, []).append(row)
        rows = {name: members for name, members in rows.items() if name and members}
        if not rows:
            raise ConfigError("decide.groups", 'has all labels of the model under "", as no words')
        self.names = tuple(rows)
        order = [row for members in rows.values() for row in members]
        self._order = np.array(order, np.intp)
        sizes = [len(members) for members in rows.values()]
        self._starts = np.cumsum([0, *sizes[:-1]], dtype=np.intp)
        # Written in place for every frame.
        self._ordered: Scores = np.zeros(len(order), np.float32)
        self._sums: Scores = np.zeros(len(sizes), np.float32)

    def __call__(self, scores: Scores) -> Scores:
        """The scores of ``names``, at most 1; the array is written again by the next call."""
        # mode="clip" spares the copy that the default makes of its output.
        np.take(scores, self._order, out=self._ordered, mode="clip")
        np.add.reduceat(self._ordered, self._starts, out=self._sums)
        # Probabilities in 8 bits are rounded each by itself, and may add up to a little more.
        np.minimum(self._sums, np.float32(1), out=self._sums)
        return self._sums
