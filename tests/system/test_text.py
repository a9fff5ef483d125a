"""Text of strangers: what could be obeyed is escaped, and nothing else."""

import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.system import logs, text


@pytest.mark.parametrize(
    ("met", "shown"),
    [
        ("espresso 猫 café", "espresso 猫 café"),
        ("\u00a0tasse\u3000\u200c", "\u00a0tasse\u3000\u200c"),
        ("\x1b[2J", r"\u001b[2J"),
        ("\x9b31m\x7f", r"\u009b31m\u007f"),
        ("a\nb\u2028c", r"a\u000ab\u2028c"),
        ("\u202egnp", r"\u202egnp"),
        ("\udcff", r"\udcff"),
        ("\U000e0041", r"\udb40\udc41"),
    ],
)
def test_what_could_be_obeyed_is_escaped(met: str, shown: str) -> None:
    assert text.printable(met) == shown


@given(st.text())
@pytest.mark.slow
def test_json_says_the_same(met: str) -> None:
    line = text.json_line({"label": met})
    assert json.loads(line) == {"label": met}
    assert text.printable(line) == line


@pytest.mark.parametrize(
    ("met", "shown"), [(b"\xff\x1b", r"'�\u001b'"), ("a" * 41, f"'{'a' * 40}…'"), ("", "''")]
)
def test_what_was_met_in_quotes(met: str | bytes, shown: str) -> None:
    assert text.quoted(met) == shown


@pytest.mark.parametrize("formatter", [logs.JournalFormatter(), logs.PersonFormatter()])
def test_no_log_line_is_obeyed_by_a_terminal(formatter: logging.Formatter) -> None:
    try:
        raise ValueError("\x1b[2J\n\u202e")
    except ValueError:
        record = logging.LogRecord("x", 30, __file__, 1, "at %s", ("\x1b]0;\n",), sys.exc_info())
    line = formatter.format(record)
    assert r"at \u001b]0;" in line
    assert text.printable(line.replace("\n", "")) == line.replace("\n", "")
    assert r"\u001b[2J" in line


def test_the_last_line_is_not_obeyed_either(capsys: pytest.CaptureFixture[str]) -> None:
    logs.complain("camera \x1b[2J\nlost")
    assert capsys.readouterr().err == "labelcam: camera \\u001b[2J lost\n"
