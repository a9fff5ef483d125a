"""docs/security.md: each promise names a test that is there, and no provision is passed over."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
# ETSI EN 303 645 V2.1.1: how many provisions each clause has.
PROVISIONS = {
    "5.1": 5, "5.2": 3, "5.3": 16, "5.4": 4, "5.5": 8, "5.6": 9, "5.7": 2, "5.8": 3, "5.9": 3,
    "5.10": 1, "5.11": 4, "5.12": 3, "5.13": 1, "6": 5,
}  # fmt: skip


def test_every_test_that_is_named_is_there() -> None:
    named = set(re.findall(r"`(tests/[\w/.]+?)(?:::(\w+))?`", SECURITY))
    assert len(named) > 40
    for path, test in named:
        assert (ROOT / path).exists(), path
        assert not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_no_provision_is_passed_over_and_what_is_met_has_a_test() -> None:
    rows = [line.strip("| ").split(" | ") for line in SECURITY.splitlines() if "|" in line]
    found = {row[0]: row[1:] for row in rows if re.fullmatch(r"(?:5\.\d+|6)-\d+", row[0])}
    expected = [f"{clause}-{n}" for clause, many in PROVISIONS.items() for n in range(1, many + 1)]
    assert list(found) == expected
    bare = {name for name, row in found.items() if row[0] == "met" and not row[-1].startswith("`")}
    # What follows from where a library comes from, or is a text, is in no test.
    assert bare == {"5.5-3", "5.8-3", "5.11-3"}


def test_reports_have_a_place_and_times() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8").lower()
    for word in ("vulnerability reporting", "days", "until", "advisor"):
        assert word in text, word


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", SECURITY):
        assert (ROOT / "docs" / target).exists(), target
