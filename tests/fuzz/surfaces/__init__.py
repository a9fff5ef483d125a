"""Every way in that is fuzzed, by name."""

from tests.fuzz.surface import Surface
from tests.fuzz.surfaces.command_line import CommandLine
from tests.fuzz.surfaces.documents import (
    Commands,
    Config,
    Groups,
    Labels,
    RecordedScores,
    Recording,
    Truth,
)
from tests.fuzz.surfaces.lessons import Archives, Heads, Lessons
from tests.fuzz.surfaces.models import Models, Proofs
from tests.fuzz.surfaces.network import Broker, Page
from tests.fuzz.surfaces.pictures import HttpCamera, Mjpeg, Pictures
from tests.fuzz.surfaces.state import Outbox, StateFiles

SURFACES: dict[str, type[Surface]] = {
    surface.name: surface
    for surface in (
        Models,
        Proofs,
        Config,
        Labels,
        Groups,
        Pictures,
        Mjpeg,
        HttpCamera,
        Recording,
        RecordedScores,
        Truth,
        Broker,
        Commands,
        Page,
        Archives,
        Heads,
        Lessons,
        Outbox,
        StateFiles,
        CommandLine,
    )
}
