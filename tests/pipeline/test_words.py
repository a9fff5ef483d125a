"""What settings call a label: other names, settings of one label, and what they may not say."""

import re
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from device import config
from device.config import Decide, Label
from device.errors import ConfigError
from device.library.labels import read_labels
from device.pipeline.decider import Decider
from device.pipeline.groups import read_groups
from device.pipeline.words import Words
from device.system.paths import MODELS

NAMES = ("cat", "dog", "cup", "espresso")
GROUPS = {"drink": ("cup", "espresso"), "": ("nothing there",)}


def words(labels: tuple[str, ...] = NAMES, groups: Any = None, **settings: Any) -> Words:
    return Words(Decide(**settings), labels, groups)


def test_an_alias_is_the_name_that_everyone_sees() -> None:
    assert words(alias={"cat": "Minka"}).names == ("Minka", "dog", "cup", "espresso")
    assert words(groups=GROUPS, alias={"drink": "coffee"}).names == ("coffee", "cat", "dog")


@pytest.mark.parametrize("name", ["Minka", "cat"])
def test_settings_may_name_a_label_by_its_alias_and_by_what_it_was(name: str) -> None:
    alias = {"cat": "Minka"}
    assert words(alias=alias, allow=(name,)).names == ("Minka",)
    assert words(alias=alias, deny=(name,)).names == ("dog", "cup", "espresso")
    settings = Decide(alias=alias, label={name: Label(enter=0.9, cooldown_s=5)})
    found = Words(settings, NAMES).thresholds(settings)
    assert found.enter.tolist() == pytest.approx([0.9, 0.5, 0.5, 0.5])
    assert found.exit.tolist() == pytest.approx([0.3] * 4)
    assert found.cooldown_s.tolist() == [5, 0, 0, 0]
    assert found.min_hold_s.tolist() == [1] * 4


def test_two_labels_may_swap_their_names() -> None:
    assert words(alias={"cat": "dog", "dog": "cat"}).names == ("dog", "cat", "cup", "espresso")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alias": {"catt": "x"}}, "decide.alias: 'catt' is no label of the model; did you mean"),
        ({"label": {"catt": Label()}}, "decide.label: 'catt' is no label of the model; did you"),
        (
            {"alias": {"cat": "dog"}},
            "decide.alias: 'dog' would be two labels; one word for several is a group: "
            'decide.groups is a file with the line "dog" = ["cat", "dog"]',
        ),
        (
            {"alias": {"cat": "pet", "dog": "pet"}},
            "decide.alias: 'pet' would be two labels; one word for several is a group: "
            'decide.groups is a file with the line "pet" = ["cat", "dog"]',
        ),
        (
            {"alias": {"cat": "unavailable"}},
            "decide.alias: 'unavailable' is what a camera without frames says",
        ),
        (
            {"alias": {"cat": "Minka"}, "label": {"cat": Label(), "Minka": Label()}},
            "decide.label: 'Minka' and 'cat' are one label",
        ),
        (
            {"alias": {"cat": "Minka"}, "allow": ("cat",), "deny": ("Minka",)},
            "decide.deny: 'Minka' is in decide.allow too; keep one of them",
        ),
    ],
)
def test_names_that_mean_nothing_or_two_things_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Decider(Decide(groups="", **settings), NAMES)
    assert str(caught.value).startswith(message)


def test_a_class_of_a_word_is_told_by_the_word() -> None:
    for settings in ({"alias": {"cup": "x"}}, {"label": {"cup": Label()}}, {"allow": ("cup",)}):
        with pytest.raises(ConfigError, match="'cup' counts as 'drink' here; name that, or set"):
            Decider(Decide(**settings), NAMES, GROUPS)


def test_what_another_camera_has_is_no_error_where_all_are_looked_at_together() -> None:
    settings = Decide(alias={"cow": "Berta"}, label={"cow": Label(enter=0.9)})
    assert Words(settings, NAMES, strict=False).names == NAMES
    assert Words(settings, ("cow",), strict=False).known == {"cow", "Berta"}


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (Label(enter=0.2), "`exit` < `enter` \\(0.2\\) of label 'cat', met 0.3"),
        (Label(exit=0.6), "`exit` < `enter` \\(0.5\\) of label 'cat', met 0.6"),
        (Label(enter=0.4, exit=0.4), "`exit` < `enter` \\(0.4\\) of label 'cat', met 0.4"),
    ],
)
def test_thresholds_of_a_label_that_cross_are_refused_with_its_name(
    label: Label, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Decide(label={"cat": label})


@pytest.mark.parametrize("mode", ["one", "any"])
def test_a_command_moves_the_thresholds_of_labels_without_their_own(mode: Any) -> None:
    settings = Decide(
        mode=mode, smoothing_s=0, min_frames=1, min_hold_s=0, label={"cat": Label(enter=0.4)}
    )
    decider = Decider(settings, NAMES)
    decider.retune(0.9, 0.1)
    assert decider.update(np.array([0, 0.8, 0, 0], np.float32), 0)[0].label == "unknown"
    assert decider.update(np.array([0.4, 0.8, 0, 0], np.float32), 1)[0].label == "cat"
    with pytest.raises(ValueError, match=r"of label 'cat', met 0\.5"):
        decider.retune(0.9, 0.5)
    # What was in force before stays.
    assert decider.update(np.array([0.2, 0.8, 0, 0], np.float32), 2) == ()


def test_a_margin_asks_for_one_label_at_a_time() -> None:
    with pytest.raises(ValueError, match=r'Expected `margin` of 0 with `mode` "any", met 0\.1'):
        Decide(mode="any", margin=0.1)
    Decide(mode="one", margin=0.1)
    assert msgspec.structs.replace(Decide(margin=0.1), margin=0.0, mode="any").mode == "any"


def test_the_settings_in_the_docs_hold(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "decide.md").read_text()
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", text, re.MULTILINE)
    settings, groups = [textwrap.dedent(block) for block in blocks if block.strip()]
    decide = config.parse(settings, "docs/decide.md").decide
    assert decide.label["cat"].enter == 0.4
    labels = read_labels(MODELS / "labels" / "imagenet-1000.txt")
    assert "coffee" in Words(decide, labels, read_groups()).names
    path = tmp_path / "mine.toml"
    path.write_text(groups)
    assert {member for found in read_groups(path).values() for member in found} <= set(labels)
    setting = re.search(r"--set '(.*)'", text)
    assert setting is not None
    assert config.load(None, [setting[1]]).decide.label["Dr. Who"].enter == 0.4


@pytest.mark.parametrize("mode", ["one", "any"])
def test_twenty_thousand_labels_are_decided_on(mode: Any) -> None:
    names = tuple(f"label {number}" for number in range(20_000))
    settings = Decide(mode=mode, min_frames=1, label={"label 9": Label(enter=0.9)})
    decider = Decider(settings, names)
    scores = np.zeros(20_000, np.float32)
    scores[[9, 19_999]] = 0.8, 0.6
    (decision,) = decider.update(scores, 0)
    assert decision.label == "label 19999"
