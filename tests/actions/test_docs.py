"""What docs/actions.md and the shipped configuration show is taken, and no key is left out."""

import re
from pathlib import Path

import msgspec

from device import config
from device.sinks.actions.kinds import check_action

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "actions.md").read_text(encoding="utf-8")
KEYS = {field.name for field in msgspec.structs.fields(config.Action)}


def test_every_example_is_a_configuration() -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) > 5
    for text in examples:
        for action in config.parse(text, "docs/actions.md").action:
            if action.kind in ("gpio", "command"):
                check_action(action)


def test_every_key_is_on_the_page() -> None:
    assert {key for key in KEYS if f"`{key}`" not in PAGE} == set()


def test_every_key_is_in_the_shipped_file_as_an_example() -> None:
    shipped = (ROOT / "systemd" / "config.toml").read_text(encoding="utf-8")
    lines = shipped.partition("# What is done when a label begins")[2]
    assert {key for key in KEYS if f"\n# {key} = " not in lines} == set()
    blocks = lines.split("# [[action]]\n")[1:]
    for block in blocks:
        kept = (line.removeprefix("# ") for line in block.splitlines())
        text = "\n".join(line for line in kept if re.match(r"\w+ = ", line))
        config.parse(f"[[action]]\n{text}\n", "config.toml")


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
