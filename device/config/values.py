"""The kinds of value that keys of the configuration have, with their limits."""

from typing import Annotated, Literal

from msgspec import Meta

Positive = Annotated[float, Meta(gt=0)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
# The kernel ends a path at a NUL, and another file than the named one would be opened.
FilePath = Annotated[str, Meta(pattern=r"^[^\0]*$")]
# Slower is no camera, and the time between two frames must stay a time.
Rate = Annotated[float, Meta(ge=0.01, le=240)]
Share = Annotated[float, Meta(ge=0, le=1)]
Pixels = Annotated[int, Meta(ge=16, le=8192)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Box = tuple[Share, Share, Share, Share]
