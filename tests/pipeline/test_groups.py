"""Everyday words: the shipped file, and the sums."""

import tomllib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device.config import Decide
from device.errors import ConfigError
from device.library.labels import read_labels
from device.pipeline.decider import Decider
from device.pipeline.groups import EMBEDDED, EVERYDAY, Rollup, groups_for, read_groups
from device.system.paths import MODELS

LABELS = read_labels(MODELS / "labels" / "imagenet-1000.txt")
SENSOR = read_labels(MODELS / "labels" / "person.txt")


def test_every_member_of_the_shipped_groups_is_a_class() -> None:
    members = [member for group in read_groups().values() for member in group]
    assert [member for member in members if member not in LABELS + SENSOR] == []


def test_no_class_is_in_two_shipped_groups() -> None:
    members = [member for group in tomllib.loads(EVERYDAY.read_text()).values() for member in group]
    assert len(members) == len(set(members))


def test_the_shipped_groups_cover_what_a_camera_sees_every_day() -> None:
    groups = read_groups()
    words = [
        "cat",
        "dog",
        "bird",
        "fish",
        "insect",
        "car",
        "truck",
        "bicycle",
        "boat",
        "cup",
        "bottle",
        "food",
        "person",
    ]
    assert set(words) <= groups.keys()
    assert 55 <= len(groups) <= 70
    assert groups[""] == ("no person",)
    sizes = {name: len(members) for name, members in groups.items()}
    # ImageNet has 118 breeds of dogs and 59 kinds of birds in blocks of their own.
    assert sizes["dog"] == 118
    assert sizes["bird"] == 59
    assert sum(sizes.values()) >= 600


def test_no_group_takes_the_name_of_a_class_that_it_does_not_hold() -> None:
    # "plane" is a carpenter's tool in ImageNet: a group of that name would be two things.
    groups = read_groups()
    classes = LABELS + SENSOR
    assert [name for name in groups if name in classes and name not in groups[name]] == []


def test_a_sensor_beside_the_embedded_model_adds_to_a_word_and_none_of_its_own() -> None:
    alone, both = Rollup(LABELS, read_groups()), Rollup(LABELS + SENSOR, read_groups())
    assert both.names == alone.names
    assert "" not in both.names
    scores = np.zeros(1002, np.float32)
    scores[[LABELS.index("suit"), 1000, 1001]] = 0.25, 0.5, 0.125
    assert dict(zip(both.names, both(scores).tolist(), strict=True))["person"] == 0.75
    assert both(scores).sum() == 0.75


def test_the_same_label_of_two_models_is_one() -> None:
    rollup = Rollup(("cat", "dog", "cat"), {"pets": ("dog",)})
    assert rollup.names == ("pets", "cat")
    assert rollup(np.array([0.25, 0.125, 0.5], np.float32)).tolist() == [0.125, 0.75]


def test_no_word_at_all_is_no_way_to_decide() -> None:
    with pytest.raises(ConfigError, match='has all labels of the model under ""'):
        Rollup(("nobody",), {"": ("nobody",)})


def test_a_group_scores_the_sum_of_its_members_and_the_rest_stand_for_themselves() -> None:
    rollup = Rollup(
        ("cat", "oak", "dog", "elm", "zebra"), {"pet": ("dog", "cat"), "fish": ("eel",)}
    )
    assert rollup.names == ("pet", "oak", "elm", "zebra")
    scores = np.array([0.25, 0.125, 0.5, 0.0, 0.0625], np.float32)
    assert rollup(scores).tolist() == [0.75, 0.125, 0.0, 0.0625]
    assert rollup(scores * 0).tolist() == [0, 0, 0, 0]


def test_sums_of_rounded_probabilities_are_at_most_one() -> None:
    rollup = Rollup(("a", "b"), {"both": ("a", "b")})
    assert rollup(np.array([0.75, 0.26], np.float32)).tolist() == [1.0]


def test_all_classes_of_a_model_arrive_somewhere() -> None:
    rollup = Rollup(("background", *LABELS), read_groups())
    scores = np.full(1001, 1 / 2048, np.float32)
    assert rollup(scores).sum() == pytest.approx(1001 / 2048)


def test_synonyms_after_the_first_do_not_matter() -> None:
    rollup = Rollup(("tench, Tinca tinca", "goldfish, Carassius auratus"), read_groups())
    assert rollup.names == ("fish",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('pet = ["cat"]\nzoo = ["lion", "cat"]', "'cat' is in pet and again in zoo"),
        ("pet = 3", "pet is not a list of labels"),
        ("pet = [1]", "pet is not a list of labels"),
        ("pet = []", "pet has no labels"),
        ('"" = []', '"" has no labels'),
        ('"" = "nobody"', '"" is not a list of labels'),
        ('"" = ["cat"]\nzoo = ["cat"]', "'cat' is in \"\" and again in zoo"),
        ("pet", "cannot be read as groups: Expected '='"),
    ],
)
def test_a_group_file_that_does_not_hold(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "groups.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_groups(path)


def test_no_group_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: cannot be read as groups: No such file"):
        read_groups(tmp_path / "none.toml")


def test_a_decider_with_groups_reports_words() -> None:
    settings = Decide(groups="everyday", smoothing_s=0, min_frames=1, min_hold_s=0)
    decider = Decider(settings, LABELS, groups_for(settings, EMBEDDED))
    scores = np.zeros(1000, np.float32)
    # No breed is at 0.5, and "dog" is at 0.6.
    scores[[151, 160, 200]] = 0.2
    (decision,) = decider.update(scores, 0.0)
    assert (decision.label, round(decision.score, 3)) == ("dog", 0.6)


@pytest.mark.parametrize(("key", "reported"), [("allow", "car"), ("deny", "unknown")])
def test_allow_and_deny_name_words(key: str, reported: str) -> None:
    settings = Decide(groups="everyday", smoothing_s=0, min_frames=1)
    settings = msgspec.structs.replace(settings, **{key: ("car",)})
    decider = Decider(settings, LABELS, groups_for(settings, EMBEDDED))
    scores = np.zeros(1000, np.float32)
    scores[[LABELS.index("cab"), LABELS.index("convertible")]] = 0.4
    scores[LABELS.index("zebra")] = 0.1
    (decision,) = decider.update(scores, 0.0)
    assert decision.label == reported


def test_a_class_that_went_up_in_a_group_cannot_be_allowed() -> None:
    settings = Decide(groups="everyday", allow=("tabby",))
    with pytest.raises(ConfigError, match="'tabby' counts as 'cat' here; name that, or set"):
        Decider(settings, LABELS, groups_for(settings, EMBEDDED))


def test_a_class_that_is_denied_does_not_count_in_its_word() -> None:
    settings = Decide(groups="everyday", smoothing_s=0, min_frames=1, deny=("espresso",))
    decider = Decider(settings, LABELS, groups_for(settings, EMBEDDED))
    assert "cup" in decider.names
    scores = np.zeros(1000, np.float32)
    scores[LABELS.index("espresso")] = 0.9
    (decision,) = decider.update(scores, 0.0)
    assert (decision.label, decision.score) == ("unknown", 0.0)


def test_a_label_that_was_taught_stands_for_itself_and_not_for_its_word() -> None:
    taught = ("espresso", "cup")
    found = groups_for(Decide(), EMBEDDED, taught)
    rollup = Rollup((*taught, *LABELS), found)
    assert "espresso" in rollup.names
    scores = np.zeros(len(taught) + len(LABELS), np.float32)
    scores[0] = 0.75
    sums = dict(zip(rollup.names, rollup(scores), strict=True))
    assert (sums["espresso"], sums["cup"]) == (0.75, 0)
    # One that has a word's own name is that word.
    scores[:2] = 0, 0.5
    assert dict(zip(rollup.names, rollup(scores), strict=True))["cup"] == 0.5


def test_groups_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('pet = ["tabby", "beagle"]\n')
    assert groups_for(Decide(groups=str(path)), "other") == {"pet": ("tabby", "beagle")}


@pytest.mark.parametrize(
    ("decide", "model", "everyday"),
    [
        (Decide(), EMBEDDED, True),
        (Decide(allow=("tabby",)), EMBEDDED, False),
        (Decide(), "mobilenet-v2-1.0-224-int8", False),
        (Decide(groups=""), EMBEDDED, False),
        (Decide(groups="everyday", allow=("cat",)), "other", True),
    ],
)
def test_everyday_words_are_in_force_for_the_embedded_model_where_nothing_is_allowed_by_name(
    decide: Decide, model: str, everyday: bool
) -> None:
    assert groups_for(decide, model) == (read_groups() if everyday else {})
