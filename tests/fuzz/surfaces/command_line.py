"""The command line, in this process: every command that starts no camera, page or broker."""

import contextlib
import io
import json
from pathlib import Path
from random import Random
from typing import ClassVar

from device.cli import main
from tests.fuzz import mutation
from tests.fuzz.surface import Surface


class CommandLine(Surface):
    """Arguments, as a JSON array of strings."""

    name = "command-line"
    share = 3
    limit_s = 30.0
    memory_mb = 400

    _LINES: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("--version",),
        ("--help",),
        ("models", "list", "--own"),
        ("models", "show", "FILE"),
        ("models", "show", "efficientnet-lite0-224-int8", "--labels", "FILE"),
        ("models", "remove", "nothing", "--own"),
        ("config", "check", "FILE", "--set", "model.threads=2", "--source", "synthetic", "--own"),
        ("config", "check", "FILE", "--set", "camera.name=door", "--set", "mqtt.node=a"),
        ("classify", "FILE", "--model", "FILE", "--json"),
        ("classify", "FILE", "--labels", "FILE", "--set", "decide.enter=0.5"),
        ("teach", "list", "--lessons", "some", "--json", "--own"),
        ("teach", "remove", "cat", "--own"),
        ("teach", "rename", "cat", "dog", "--own"),
        ("teach", "import", "FILE", "--own"),
        ("teach", "export", "FILE", "--own"),
        ("teach", "undo", "--own"),
        ("record", "FILE", "--for", "-1s", "--frames", "0"),
        ("run", "--frames", "none", "--source", "\n"),
        ("bench", "--model", "FILE", "--time", "x"),
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "file").write_bytes(b"labelcam")

    def make(self, chance: Random) -> bytes:
        """A line with other words."""
        line = list(chance.choice(self._LINES))
        # A run, a recording and a race begin where their arguments hold: those only get worse.
        begins = line[0] in ("run", "record", "bench")
        for _ in range(chance.randrange(3)):
            at = chance.randrange(len(line))
            way = chance.randrange(5)
            if way == 0 and not begins:
                del line[at]
            elif way == 1:
                line.insert(at, line[at])
            elif begins:
                line.append(mutation.text(chance))
            elif at:
                line[at] = mutation.text(chance)
            else:
                line[0] = chance.choice(("models", "config", "classify", "teach", "x"))
            line = line or ["--help"]
        return json.dumps(line).encode()

    def feed(self, data: bytes) -> None:
        """Obey, and see how it ends."""
        try:
            line = json.loads(data)
        except ValueError:  # as coverage may lead to
            return
        file = str(self.folder / "file")
        # The kernel hands no NUL on.
        arguments = [str(word).replace("FILE", file).replace("\0", "") for word in line]
        out, err = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code: object = main(arguments)
        except SystemExit as ended:  # --help and --version
            code = ended.code
        assert code in (0, 1, 2), code
        said = err.getvalue()
        assert "internal fault" not in said, said[-500:]
        assert "Traceback" not in said, said[-500:]
