"""What the live display shows, as text, for every size and state."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from device.events import OFF_DUTY, Drift, Observation, SinkHealth
from device.sinks.terminal.dashboard import Dashboard
from device.sinks.terminal.letters import ASCII, CONSOLE, UNICODE, Glyphs, big, glyphs_for
from device.system.text import printable
from tests.sinks.examples import (
    VITALS,
    beside,
    camera_health,
    change,
    device_health,
    observation,
)

BOLD = Style(bold=True)


def dashboard(*observations: Observation, glyphs: Glyphs = UNICODE, top: int = 5) -> Dashboard:
    """A display that has seen these observations and the usual snapshot."""
    shown = Dashboard(top, glyphs, color=True)
    for seen in observations:
        shown.observations[seen.camera] = seen
    shown.health = device_health()
    return shown


def text(shown: Dashboard, width: int = 80, height: int = 24) -> list[str]:
    lines = shown.lines(width, height)
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


def segment(shown: Dashboard, wanted: str) -> Segment:
    """The first piece of the display with this text in it."""
    return next(s for line in shown.lines(80, 24) for s in line if wanted in s.text)


def test_eighty_columns() -> None:
    shown = dashboard(observation())
    shown.change(change())
    shown.log.append("  3.2 s  camera  espresso 0.93 (was unknown, 2.1 s)")
    for score in (0.0, 0.5, 1.0):
        shown.observations["camera"] = observation(score=score)
        shown.sample()
    shown.observations["camera"] = observation()
    assert text(shown) == [
        "  labelcam  camera · footage                                          29.8 fps",
        "",
        "  █▀▀ ▄▀▀ █▀█ █▀█ █▀▀ ▄▀▀ ▄▀▀ █▀█",
        "  █▀   ▀▄ █▀▀ █▀▄ █▀   ▀▄  ▀▄ █ █",
        "  ▀▀▀ ▀▀  ▀   ▀ ▀ ▀▀▀ ▀▀  ▀▀  ▀▀▀",
        "  espresso  0.90  for 4.5 s",
        "",
        "  espresso                " + "━" * 43 + "───  0.94",
        "  cup                     ━╸" + "─" * 44 + "  0.03",
        "  eggnog                  ━" + "─" * 45 + "  0.02",
        "  chocolate sauce         ╸" + "─" * 45 + "  0.01",
        "  coffee mug              " + "─" * 46 + "  0.00",
        "",
        "  last 5 s                " + " " * 43 + "▁▅█  0.90",
        "",
        "  ms        preprocess        invoke   postprocess        decide         total",
        "  mean            0.41         10.21          0.08          0.02         12.30",
        "  p99             0.62         12.80          0.11          0.03         15.90",
        "",
        "  efficientnet-lite0-224-int8 · tflite-runtime 2.14.0",
        "  xnnpack 63/64 operators · 1 thread",
        "",
        "    3.2 s  camera  espresso 0.93 (was unknown, 2.1 s)",
    ]


def test_forty_columns() -> None:
    scores = {"Egyptian cat": 0.72, "tabby": 0.14, "tiger cat": 0.09}
    shown = dashboard(observation("Egyptian cat", 0.7, scores))
    shown.sample()
    assert text(shown, 40) == [
        "  labelcam  camera · footage  29.8 fps",
        "",
        "  █▀▀ ▄▀▀ █ █ █▀█ ▀█▀ ▀█▀ ▄▀▄ █▄ █",
        "  █▀  █ █  █  █▀▀  █   █  █▀█ █ ▀█",
        "  ▀▀▀  ▀▀  ▀  ▀    ▀  ▀▀▀ ▀ ▀ ▀  ▀",
        "  ▄▀▀ ▄▀▄ ▀█▀",
        "  █   █▀█  █",
        "   ▀▀ ▀ ▀  ▀",
        "  Egyptian cat  0.70",
        "",
        "  Egyptian …  ━━━━━━━━━━━━━─────  0.72",
        "  tabby       ━━╸───────────────  0.14",
        "  tiger cat   ━╸────────────────  0.09",
        "",
        "  last 2 s                     ▆  0.70",
        "  ms              mean     p99",
        "  preprocess      0.41    0.62",
        "  invoke         10.21   12.80",
        "  postprocess     0.08    0.11",
        "  decide          0.02    0.03",
        "  total          12.30   15.90",
        "  efficientnet-lite0-224-int8",
        "  tflite-runtime 2.14.0",
        "  xnnpack 63/64 operators · 1 thread",
    ]


def test_ascii() -> None:
    shown = dashboard(observation(), glyphs=ASCII)
    shown.sample()
    lines = text(shown)
    assert "".join(lines).isascii()
    assert lines[0].startswith("  labelcam  camera - footage")
    assert lines[2:4] == ["   espresso", "  0.90"]
    assert lines[5] == "  espresso                " + "#" * 43 + "...  0.94"


@pytest.mark.parametrize(
    ("encoding", "term", "expected"),
    [
        ("utf-8", "xterm-256color", UNICODE),
        ("utf-8", "linux", CONSOLE),
        ("ascii", "xterm", ASCII),
        ("iso8859-1", "xterm", ASCII),
    ],
)
def test_glyphs_suit_the_terminal(encoding: str, term: str, expected: Glyphs) -> None:
    assert glyphs_for(encoding, term) is expected


def test_a_low_terminal_keeps_label_and_bars() -> None:
    lines = text(dashboard(observation()), height=10)
    assert lines[4] == "  espresso  0.90"
    assert [line.split()[0] for line in lines[5:]] == [
        "espresso",
        "cup",
        "eggnog",
        "chocolate",
        "coffee",
    ]


def test_a_terminal_of_one_line_shows_the_label() -> None:
    long = "black-and-gold garden spider"
    assert text(dashboard(observation(long)), 40, 1) == ["   black-and-gold garden spider"]


def test_a_long_label_is_broken_between_words() -> None:
    lines = text(dashboard(observation("black-and-gold garden spider")))
    assert lines[2].startswith("  █▀▄ █   ▄▀▄ ▄▀▀ █ █")
    assert lines[5].startswith("  ▄▀▀ ▄▀▄ █▀█ █▀▄")
    assert lines[8] == "  black-and-gold garden spider  0.90"


def test_a_label_without_letters_of_ours_is_written_plainly() -> None:
    lines = text(dashboard(observation("猫")))
    assert lines[2] == "   猫"


@pytest.mark.parametrize("char", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_'.,/()+:&")
def test_every_letter_is_of_its_own_shape(char: str) -> None:
    others = [big(other, 80, UNICODE) for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"]
    drawn = big(char, 80, UNICODE)
    assert drawn is not None
    assert len(drawn) == 3
    assert others.count(drawn) == char.isalnum()


def test_no_picture_yet() -> None:
    shown = Dashboard(5, ASCII, color=True)
    assert text(shown) == ["  labelcam", "", "   starting"]


def test_no_decision_yet() -> None:
    assert text(dashboard(observation(None), glyphs=ASCII))[2] == "   looking"


@pytest.mark.parametrize("state", ["stalled", "lost", "ended"])
def test_a_camera_that_delivers_nothing_shows_no_label(state: str) -> None:
    shown = dashboard(observation(), glyphs=ASCII)
    shown.health = device_health(camera_health(state=state))
    lines = text(shown)
    assert lines[2] == f"   camera {state}"
    assert "espresso" not in "".join(lines)


def test_outside_its_hours_a_camera_shows_no_label() -> None:
    shown = dashboard(observation(), observation(camera="door"), glyphs=ASCII)
    shown.health = device_health(camera_health(), camera_health(name="door"))
    for camera in ("camera", "door"):
        shown.change(change(camera=camera, label=OFF_DUTY, score=0.0))
    lines = text(shown)
    assert "  door  off duty" in lines
    assert lines[2] == "   off duty"
    assert "espresso" not in "".join(lines)
    shown.observations.clear()
    assert text(shown)[2] == "   off duty"


def test_of_many_labels_all_that_are_in_force_are_shown() -> None:
    both = msgspec.structs.replace(observation(), active=("espresso", "cup"))
    shown = dashboard(both, msgspec.structs.replace(both, camera="door"), glyphs=ASCII)
    shown.change(change(at=3.2))
    shown.change(change(label="cup", active=("espresso", "cup"), previous=None, at=5.0))
    lines = text(shown)
    assert lines[2:4] == ["   espresso + cup", "  0.90  for 4.5 s"]
    assert any(line.startswith("  door  espresso + cup 0.90") for line in lines)
    bold = [s.text.strip() for line in shown.lines(80, 24)[4:] for s in line if s.style == BOLD]
    assert bold[:4] == ["espresso", "0.94", "cup", "0.03"]
    shown.change(change(label="cup", on=False, active=("espresso",), previous=None, at=6.0))
    assert text(shown)[3] == "  0.90  for 4.5 s"


def test_what_limits_the_rate_is_said() -> None:
    shown = dashboard(observation())
    for share, by, line in (
        (0.5, "hot", "  hot: 50% of the full rate"),
        (0.0, "cpu budget", "  cpu budget: a frame a second"),
    ):
        shown.health = msgspec.structs.replace(device_health(), rate_share=share, governed_by=by)
        assert line in text(shown)


def test_a_label_that_is_held_but_no_longer_seen_is_yellow() -> None:
    for label, color in (("espresso", "green"), ("tabby", "yellow"), ("unknown", "yellow")):
        style = segment(dashboard(observation(label), glyphs=ASCII), f" {label} ").style
        assert style is not None
        assert style.color is not None
        assert style.color.name == color


def test_without_color_there_is_none() -> None:
    shown = Dashboard(5, UNICODE, color=False)
    shown.observations["camera"] = observation()
    shown.health = device_health()
    styles = [s.style for line in shown.lines(80, 24) for s in line if s.style]
    assert styles
    assert all(style.color is None for style in styles)


def test_the_sparkline_is_dim_where_another_label_was_active() -> None:
    shown = dashboard(observation("cup", 0.3))
    shown.sample()
    shown.observations["camera"] = observation("espresso", 1.0)
    shown.sample()
    before, now = segment(shown, "▃").style, segment(shown, "█").style
    assert before is not None
    assert now is not None
    assert before.dim
    assert not now.dim


def test_scores_beyond_their_range_stay_in_their_place() -> None:
    shown = dashboard(observation(score=1.7, scores={"a": 1.5, "b": -0.5}), glyphs=ASCII)
    shown.sample()
    lines = text(shown)
    assert "#" * 46 + "  1.50" in lines[5]
    assert "." * 46 in lines[6]
    assert lines[8].endswith("#  1.70")


def test_top_limits_the_bars() -> None:
    assert sum("━" in line for line in text(dashboard(observation(), top=2))) == 2


def test_further_cameras_have_a_line_each() -> None:
    shown = dashboard(observation(), observation("mailbox", 0.7, camera="door"))
    shown.observations["yard"] = observation("fence", camera="yard")
    shown.health = device_health(
        camera_health(),
        camera_health(name="door", fps=14.92),
        camera_health(name="yard", state="lost"),
    )
    lines = text(shown)
    assert "  door  mailbox 0.70  14.9 fps" in lines
    assert "  yard  lost" in lines


def test_the_last_log_line_is_shown() -> None:
    shown = dashboard(observation())
    shown.note = "labelcam: broker unreachable"
    assert text(shown)[-1] == "  labelcam: broker unreachable"


@pytest.mark.parametrize(
    ("interpreter", "expected"),
    [
        (
            {"delegate": "none", "operators_delegated": 0, "model": "mobilenet"},
            "  mobilenet · tflite-runtime 2.14.0 · no delegate · 1 thread",
        ),
        ({"threads": 4}, "  xnnpack 63/64 operators · 4 threads"),
    ],
)
def test_the_backend_in_words(interpreter: dict[str, object], expected: str) -> None:
    shown = dashboard(observation())
    shown.health = device_health(**interpreter)
    assert expected in text(shown)


def test_what_is_beside_is_named_and_what_is_wrong_with_it() -> None:
    shown = dashboard(observation())
    shown.health = device_health(camera_health(beside=(beside(),)))
    assert "  mobilenet-v1-person-96 beside it, xnnpack 31/31 operators" in text(shown)
    shown.health = device_health(camera_health(beside=(beside("model m: failed in invoke()"),)))
    assert "  mobilenet-v1-person-96 beside it, failing" in text(shown)
    assert "  model m: failed in invoke()" in text(shown)


def test_text_from_files_is_literal_and_cannot_move_the_cursor() -> None:
    label = "[red]\x1b[2J\nx\u202e\x9b1m"
    shown = dashboard(observation(label, scores={label: 0.9}), glyphs=ASCII)
    shown.health = device_health(camera_health(source="a\x1b[2Jb"), model="m\rm")
    lines = text(shown)
    assert lines[2] == "   [red]\\u001b[2J\\u000ax\\u202e\\u009b1m"
    assert lines[5].startswith("  [red]\\u001b[2J\\u000a")
    assert lines[0].startswith("  labelcam  camera - a\\u001b[2Jb")
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", "".join(lines))


@given(
    label=st.text(max_size=60),
    width=st.integers(20, 200),
    height=st.integers(1, 60),
    glyphs=st.sampled_from([UNICODE, CONSOLE, ASCII]),
)
def test_nothing_reaches_the_last_column_or_is_higher_than_the_terminal(
    label: str, width: int, height: int, glyphs: Glyphs
) -> None:
    shown = dashboard(observation(label, scores={label: 0.5, "b" * 90: 0.1}), glyphs=glyphs)
    shown.log.append("x" * 300)
    shown.note = label
    shown.sample()
    lines = shown.lines(width, height)
    assert 0 < len(lines) <= height
    for line in lines:
        assert sum(cell_len(segment.text) for segment in line) < width
        assert all(printable(segment.text) == segment.text for segment in line)


def test_the_board_the_picture_and_the_ways_out() -> None:
    shown = dashboard(observation())
    board = msgspec.structs.replace(VITALS, temperature_c=61.4, throttling=())
    shown.health = msgspec.structs.replace(device_health(), vitals=board)
    assert text(shown)[0].endswith("61°C  29.8 fps")
    board = msgspec.structs.replace(board, throttling=("under-voltage",))
    sinks = (SinkHealth("terminal"), SinkHealth("mqtt", "no broker at cam:1883"), SinkHealth("web"))
    camera = camera_health(picture=("blurred", "moved"))
    shown.health = msgspec.structs.replace(device_health(camera), sinks=sinks, vitals=board)
    lines = text(shown, 80, 40)
    for line in ("  picture blurred, moved", "  under-voltage", "  mqtt: no broker at cam:1883"):
        assert line in lines
    assert any(line.endswith("· web works") for line in lines)
    assert not any("terminal" in line for line in lines)
    camera = camera_health(drift=Drift("less sure, 1.50 bits"))
    shown.health = device_health(camera)
    assert "  not as usual: less sure, 1.50 bits" in text(shown, 80, 40)
