"""What the service manager is told: that it works, that it is alive, what goes on (sd_notify(3)).

``READY=1`` and ``WATCHDOG=1`` follow finished work and never a timer: a device that hangs
says nothing, and is started anew.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from device import config
from device.events import DeviceHealth, Observation
from device.system.text import one_line

_STATUS_MAX = 300
_USUAL_S = 30.0


class Notifier:
    """Datagrams to the socket that $NOTIFY_SOCKET names; where it names none, nothing is sent."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        given = environ.get("NOTIFY_SOCKET", "")
        # An abstract socket is written with an @ for its leading zero byte.
        self._address = "\0" + given[1:] if given.startswith("@") else given
        self.active = given.startswith(("/", "@"))

    def send(self, *assignments: str) -> None:
        """Send ``KEY=VALUE`` lines in one datagram, never waiting; what cannot be sent is lost."""
        if not self.active:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock,
        ):
            sock.sendto("\n".join(assignments).encode(), self._address)

    def status(self, text: str) -> None:
        """Have ``systemctl status`` show this line, the process's last one too."""
        self.send(_status(text))


class Service:
    """The node's word to the service manager, following its work; for the node's thread.

    READY=1 with the loop's first report: the device stands, whether its camera is there or still
    waited for. WATCHDOG=1 only when a frame was finished since the last, or the attempts to open
    a camera went on: when those cease, so does it. The watchdog of the unit is widened where a
    camera may be silent for longer, by its ``stall_s``.
    """

    def __init__(
        self,
        cameras: Sequence[config.Camera],
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier = Notifier(environ)
        self.active = self._notifier.active
        self._clock = clock
        given_s = 0.0
        # The process image that a reload puts in this one's place keeps number and watchdog.
        if environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            usec = environ.get("WATCHDOG_USEC", "")
            given_s = int(usec) / 1e6 if usec.isdecimal() else 0.0
        wanted_s = 2 * max(camera.stall_s for camera in cameras)
        self._widen = 0 < given_s < wanted_s
        # Without a watchdog only the status is sent, as often as with the usual one.
        self._watchdog_s = max(given_s, wanted_s) if given_s else _USUAL_S
        self._ready = False
        self._labels: dict[str, tuple[str | None, float, tuple[str, ...]]] = {}
        self._work = 0
        self._worked = False
        self._fed_at = float("-inf")
        self._shown: object = None
        self._refusal = ""

    def classified(self, observation: Observation) -> None:
        """A frame is finished."""
        if self.active:
            seen = observation.label, observation.score, observation.active
            self._labels[observation.camera] = seen

    def report(self, health: DeviceHealth) -> None:
        """Between two frames, about once a second: how the device is."""
        if not self.active:
            return
        # A frame that was taken out of its slot is finished by now: this is the same thread.
        work = sum(c.seen - c.dropped + c.openings for c in health.cameras)
        self._worked |= work != self._work
        self._work = work
        feeds = self._worked and self._clock() - self._fed_at >= self._watchdog_s / 3
        # What changes with every frame is only shown anew when something else is sent.
        shown = (
            {name: sorted(active) or label for name, (label, _, active) in self._labels.items()},
            [(c.state, c.problem, c.controls, c.look == "off duty") for c in health.cameras],
            [other.problem for c in health.cameras for other in c.beside],
            health.sinks,
            health.interpreter.delegate,
            self._refusal,
        )
        if not feeds and shown == self._shown:
            return
        self._shown = shown
        message = [_status("; ".join(filter(None, self._words(health))))]
        if feeds:
            self._fed_at, self._worked = self._clock(), False
            if self._widen:
                message.append(f"WATCHDOG_USEC={round(self._watchdog_s * 1e6)}")
                self._widen = False
            message.append("WATCHDOG=1")
        if not self._ready:
            self._ready = True
            message.append("READY=1")
        self._notifier.send(*message)

    def reloading(self) -> None:
        """The configuration is read again, or the program starts again in this process."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={usec}", "WATCHDOG=1")

    def reloaded(self, refusal: str = "") -> None:
        """It goes on with the configuration that it has; ``refusal`` is why not with the new."""
        self._refusal = refusal
        self._notifier.send("READY=1")

    def stopping(self) -> None:
        """It ends."""
        self._notifier.send("STOPPING=1", _status("stopping"))

    def _words(self, health: DeviceHealth) -> list[str]:
        words = [f"the new configuration is refused: {self._refusal}" * bool(self._refusal)]
        for camera in health.cameras:
            name = f"{camera.name}: " * (len(health.cameras) > 1)
            label, score, active = self._labels.get(camera.name, (None, 0.0, ()))
            if camera.state != "live":
                words.append(f"{name}camera {camera.state} {camera.problem}".rstrip())
            elif camera.controls and not camera.controls.enabled:
                words.append(f"{name}disabled")
            elif camera.look == "off duty":
                words.append(f"{name}off duty")
            else:
                seen = f"{label} {score:.2f}" if label else "no label yet"
                if others := [other for other in active if other != label]:
                    seen += f" with {', '.join(others)}"
                words.append(f"{name}{seen}, {camera.fps:.1f} frames/s")
        interpreter = health.interpreter
        backend = interpreter.delegate if interpreter.operators_delegated else "no delegate"
        words.append(f"{interpreter.runtime} {backend}")
        words += dict.fromkeys(o.problem for c in health.cameras for o in c.beside if o.problem)
        for sink in health.sinks:
            if sink.name == "mqtt":
                words.append("broker " + (sink.problem or "connected"))
            elif sink.problem:
                words.append(f"{sink.name}: {sink.problem}")
        return words


def _status(text: str) -> str:
    """As one line: a line break would begin another assignment."""
    return f"STATUS={one_line(text)[:_STATUS_MAX]}"
