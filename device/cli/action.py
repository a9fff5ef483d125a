"""``labelcam action``: what is done when a label begins or ends, by hand."""

import argparse
import contextlib
import time
from typing import TYPE_CHECKING

from device.cli.arguments import (
    SET,
    VERBOSE,
    Commands,
    as_json,
    config_file,
    duration_s,
    group,
)
from device.cli.service import OWN
from device.errors import UsageError

if TYPE_CHECKING:
    from device import config
    from device.sinks.actions.performer import Occurrence
    from device.sinks.photos import Photo

# What is shown of a pin that is held, and a label where the action is for all of them.
_HELD_S = 2.0
_LABEL = "test"


def register(commands: Commands) -> None:
    """Add the command."""
    ways = group(commands, "action", "what is done when a label begins or ends, by hand")
    listed = ways.add_parser(
        "list",
        parents=[VERBOSE, config_file(), SET, OWN, as_json("the list as JSON")],
        help="list the actions of the configuration",
    )
    listed.set_defaults(command=_list)
    test = ways.add_parser(
        "test",
        parents=[VERBOSE, config_file(), SET, OWN],
        help="do one now, once, and say what came of it",
        description="Do an action now, once, whatever its labels, hours and limit, and say what "
        "came of it: what it does when a label begins, or with --off what it does when it ends.",
    )
    test.add_argument("name", metavar="NAME", help="its name in the configuration")
    test.add_argument("--label", metavar="LABEL", help="the label that it is told")
    test.add_argument("--camera", metavar="CAMERA", help="the camera that it is told")
    test.add_argument("--off", action="store_true", help="do what it does at the end of a label")
    test.add_argument(
        "--for",
        dest="for_s",
        metavar="TIME",
        type=duration_s,
        default=_HELD_S,
        help="how long pins are held, such as 5s; 2s where it is not given",
    )
    test.set_defaults(command=_test)


def _list(options: argparse.Namespace) -> int:
    from device import config
    from device.system.text import json_line, one_line

    actions = config.load(options.config, options.set).action
    if options.json:
        for action in actions:
            print(json_line(_fields(action)))
        return 0
    if not actions:
        print("no actions; docs/actions.md has some to begin with")
    width = max((len(one_line(action.name)) for action in actions), default=0)
    for action in actions:
        print(f"{one_line(action.name):{width}}  {action.kind:8}{one_line(_conditions(action))}")
    return 0


def _fields(action: "config.Action") -> dict[str, object]:
    """An action without its pins, words and addresses, which may hold secrets."""
    import msgspec

    fields = msgspec.structs.asdict(action)
    return {k: v for k, v in fields.items() if k not in ("on", "off") and v is not None}


def _conditions(action: "config.Action") -> str:
    """When it is done, in words."""
    said = [", ".join(action.labels) or "all labels"]
    said += [f"of {', '.join(action.cameras)}"] if action.cameras else []
    said += [f"held {action.min_held_s:g} s"] if action.min_held_s else []
    said += [" and ".join(action.hours)] if action.hours else []
    if action.limit:
        count, _, unit = action.limit.partition("/")
        said.append(f"at most {count} {'an' if unit == 'hour' else 'a'} {unit}")
    when = [name for name, on in (("begin", True), ("end", False)) if action.targets(on=on)]
    return f"{' and '.join(when)} of {', '.join(said)}".replace(", of ", " of ")


def _test(options: argparse.Namespace) -> int:
    from device import config
    from device.sinks.actions.kinds import check_action, open_action

    settings = config.load(options.config, options.set)
    action = _find(settings, options.name)
    check_action(action)
    on = not options.off
    if not action.targets(on=on):
        there, option = ("`on`", "without --off") if options.off else ("`off`", "with --off")
        missing = "`off`" if options.off else "`on`"
        raise UsageError(f"action {action.name}: has no {missing}; {option} its {there} is done")
    performer = open_action(action, lambda _occurrence, _outcome: None)
    try:
        said = performer.rehearse(_occurrence(settings, action, options, performer.wants_picture))
        print(f"action {action.name}: {said}", flush=True)
        if action.kind == "gpio":
            # Ctrl-C lets go sooner.
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(action.pulse_s or options.for_s)
    finally:
        performer.cancel()
        performer.close()
    return 0


def _find(settings: "config.Config", name: str) -> "config.Action":
    from device.pipeline.words import nearest

    for action in settings.action:
        if action.name == name:
            return action
    names = [action.name for action in settings.action]
    if not names:
        raise UsageError("the configuration has no [[action]]; give the one that has with --config")
    near = nearest(name, names)
    raise UsageError(f"no action is named {name!r}{near or '; there is ' + ', '.join(names)}")


def _occurrence(
    settings: "config.Config",
    action: "config.Action",
    options: argparse.Namespace,
    with_picture: bool,
) -> "Occurrence":
    from device.sinks.actions.performer import Occurrence
    from device.sinks.mqtt.topics import Topics

    label = options.label or (action.labels[0] if action.labels else _LABEL)
    camera = options.camera or (action.cameras[0] if action.cameras else settings.camera[0].name)
    return Occurrence(
        action=action.name,
        node=Topics(settings.mqtt.prefix, settings.mqtt.node, ()).node,
        camera=camera,
        label=label,
        on=not options.off,
        score=1.0,
        held_s=0.0,
        active=() if options.off else (label,),
        model=settings.model.name,
        at=time.monotonic(),
        wall_at=time.time(),
        photo=_picture(settings.camera[0]) if with_picture else None,
    )


def _picture(camera: "config.Camera") -> "Photo":
    """A picture that ships with labelcam: nobody's, and there without a camera."""
    from device.recordings.pictures import read_picture
    from device.sinks.photos import Photo
    from device.system.paths import MODELS

    return Photo(read_picture(MODELS / "footage" / "cat.jpg"), camera, None)
