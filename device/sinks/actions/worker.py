"""The thread of an action: what the loop left for it, its conditions, and the doing."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from device import config
from device.errors import ActionError
from device.events import ActionResult
from device.sinks.actions.performer import Occurrence, Performer, Report
from device.sinks.actions.trigger import Moment, Trigger
from device.system.text import one_line

_log = logging.getLogger("labelcam.actions")

# Moments that wait while the action is busy. Past that the newest of a camera takes the place of
# the one before it: what is in force in the end is never lost, only what came and went.
MAX_WAITING = 16


class Worker:
    """One action: its conditions, its performer, and as many threads as that may use at once.

    ``put`` and ``score`` are for the loop's thread and take microseconds.
    """

    def __init__(
        self,
        settings: config.Action,
        node: str,
        open_action: Callable[[config.Action, Report], Performer],
        report: Callable[[ActionResult], None],
    ) -> None:
        self.name = settings.name
        # Of beginnings, of ends, and of all else: one may fail while the other works.
        self._problems: dict[bool | None, str] = {}
        self._settings = settings
        self._report = report
        self._trigger = Trigger(settings, node)
        self._performer = open_action(settings, self._came)
        self.wants_score = self._performer.wants_score
        self.wants_picture = self._performer.wants_picture
        # The loop's thread alone has this: the labels that it told of last, for each camera.
        self._told: dict[str, frozenset[str]] = {}
        self._ready = threading.Condition()
        self._moments: deque[Moment] = deque()
        self._scores: dict[str, Mapping[str, float]] = {}
        self._closing = False
        self._opening = threading.Lock()
        self._open = False
        self._running = self._performer.at_once
        # Daemons: what hangs in a driver must not keep the process.
        self._threads = [
            threading.Thread(target=self._run, name=f"labelcam-action-{settings.name}", daemon=True)
            for _ in range(self._running)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def problem(self) -> str:
        """Why it was not done the last time, empty where it was."""
        # A copy, which no other thread can change meanwhile.
        return next(iter(list(self._problems.values())), "")

    @property
    def trouble(self) -> str:
        """Why it was not done the last time, or is not done yet; empty where nothing is wrong."""
        return self.problem or self._performer.problem

    # What the loop's thread calls.

    def put(self, moment: Moment) -> None:
        """Take what is in force at a camera since now, where that bears on the action."""
        change = moment.change
        wanted = frozenset(self._trigger.wanted(change.active))
        if not self._trigger.concerns(change.camera) or wanted == self._told.get(
            change.camera, frozenset()
        ):
            return
        self._told[change.camera] = wanted
        if not self.wants_picture and moment.photo is not None:
            moment = replace(moment, photo=None)
        with self._ready:
            if len(self._moments) >= MAX_WAITING:
                self._pass_over(change.camera)
            self._moments.append(moment)
            self._ready.notify()

    def score(self, camera: str, scores: Mapping[str, float]) -> None:
        """Take how sure the camera is of what is in force; only the newest counts."""
        if self._told.get(camera):
            with self._ready:
                self._scores[camera] = scores
                self._ready.notify()

    def stop(self) -> None:
        """Take nothing more, and have what is under way end soon."""
        with self._ready:
            self._closing = True
            self._ready.notify_all()
        self._performer.cancel()

    def join(self, deadline: float) -> None:
        """Wait until all is ended and let go, at most until this monotonic time."""
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                _log.warning("action %s: does not end; it is left behind", self._settings.name)
                return

    def _pass_over(self, camera: str) -> None:
        """Drop the newest moment of the camera that waits: another comes in its place."""
        for number in range(len(self._moments) - 1, -1, -1):
            if (moment := self._moments[number]).change.camera == camera:
                del self._moments[number]
                change = moment.change
                self._tell(change.camera, change.label, change.on, change.at, "was busy")
                return

    # What its own threads do.

    def _run(self) -> None:
        self._make_open()
        while not self._closing:
            if work := self._next():
                work()
        with self._ready:
            self._running -= 1
            last = not self._running
        if last:
            self._end()

    def _next(self) -> Callable[[], None] | None:
        """The next thing to do; None where a wait came to its end, or all does."""
        with self._ready:
            now = time.monotonic()
            while not self._closing:
                # What was due before the next moment comes before it.
                due = min(now, self._moments[0].change.at) if self._moments else now
                if step := self._trigger.next_step(due):
                    return lambda: self._take(step.occurrence, step.refused)
                if not self._moments:
                    break
                self._trigger.see(self._moments.popleft())
            if self._scores and not self._closing:
                scores, self._scores = self._scores, {}
                return lambda: self._update(scores)
            if not self._closing:
                self._ready.wait(self._trigger.wait_s(now))
        return None

    def _take(self, occurrence: Occurrence, refused: str) -> None:
        if refused:
            o = occurrence
            self._tell(o.camera, o.label, o.on, o.at, refused)
        else:
            self._came(occurrence, self._perform(occurrence))

    def _perform(self, occurrence: Occurrence) -> str | ActionError | None:
        try:
            self._make_open()
            if self._open:
                performer = self._performer
                return performer.begin(occurrence) if occurrence.on else performer.end(occurrence)
            return ActionError(self._settings.name, self.problem)
        except ActionError as error:
            return error
        except Exception as error:  # noqa: BLE001 - here an action is isolated
            return self._fault(error)

    def _update(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        with self._ready:
            begun = [o for camera in scores for o in self._trigger.begun(camera)]
        try:
            for o in begun:
                if o.label in scores[o.camera]:
                    self._performer.update(replace(o, score=scores[o.camera][o.label]))
        except ActionError as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - here an action is isolated
            self._failed(self._fault(error))

    def _make_open(self) -> None:
        with self._opening:
            if self._open:
                return
            try:
                self._performer.open()
                self._open = True
            except ActionError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - here an action is isolated
                self._failed(self._fault(error))

    def _end(self) -> None:
        """End what is in force, where it would stay so, and let go."""
        ends = self._trigger.end_all(time.monotonic())
        if self._performer.ends_at_close:
            for occurrence in ends:
                self._take(occurrence, "")
        try:
            self._performer.close()
        except Exception as error:  # noqa: BLE001 - here an action is isolated
            self._failed(self._fault(error))

    def _came(self, occurrence: Occurrence, outcome: str | ActionError | None) -> None:
        """Report what came of an occurrence, unless that is only known later."""
        o, problem = occurrence, ""
        if outcome is None:
            return
        if isinstance(outcome, ActionError):
            problem = self._failed(outcome, on=o.on)
        elif self._problems:
            self._problems.pop(None, None)
            self._problems.pop(o.on, None)
            if not self._problems:
                _log.info("action %s: works again", self._settings.name)
        self._tell(o.camera, o.label, o.on, o.at, problem)

    def _failed(self, error: ActionError, *, on: bool | None = None) -> str:
        """Note a failure, and return it; logged once for each reason."""
        problem = one_line(error.problem)
        if problem not in list(self._problems.values()):
            _log.warning("action %s: %s", self._settings.name, problem)
        self._problems[on] = problem
        return problem

    def _fault(self, error: Exception) -> ActionError:
        self._open = False
        _log.debug("fault", exc_info=error)
        return ActionError(self._settings.name, f"{type(error).__name__}: {error}")

    def _tell(self, camera: str, label: str, on: bool, at: float, problem: str) -> None:
        now = time.monotonic()
        settings = self._settings
        self._report(
            ActionResult(
                settings.name,
                settings.kind,
                camera,
                label,
                on,
                not problem,
                problem,
                max(0.0, (now - at) * 1e3),
                now,
            )
        )
