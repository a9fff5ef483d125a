"""Whether somebody is there: the default configuration on real clips."""

from pathlib import Path

import pytest

from tests import presence


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_six_of_six_people_are_seen_in_an_office_and_nobody_else(testdata: Path) -> None:
    office, people = next(presence.usual(testdata))
    result = presence.look(presence.clip_of(office, people), "both")
    assert (result.people, result.found, result.false) == (6, 6, ())
    # Nobody is seen twice.
    assert len(result.said) == 6


@pytest.mark.long
@pytest.mark.slow
def test_nobody_is_seen_where_nobody_is(testdata: Path) -> None:
    for path, people in list(presence.usual(testdata))[1:]:
        result = presence.look(presence.clip_of(path, people), "both")
        assert (result.clip, result.found, result.false) == (path.name, len(people), ())


def test_what_was_missed_and_what_was_invented_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def look(clip: presence.Clip, way: str) -> presence.Result:
        asked.append((clip.name, way, clip.people))
        return presence.Result(clip.name, way, len(clip.people), 1, (), ((1.0, 2.0),))

    monkeypatch.setattr(presence, "look", look)
    assert presence.main(["a.mp4=0-3", "--json"]) == 0
    assert presence.main(["a.mp4=0-3,50-60.5"]) == 1
    assert asked[0] == ("a.mp4", "both", [(0.0, 3.0)])
    assert "1.0-2.0" in capsys.readouterr().out
