"""What the configuration asks of each camera's channels: its model, its labels, its regions."""

import contextlib
import logging
from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import msgspec

from device import config
from device.errors import ConfigError, LabelcamError, ModelError
from device.events import Controls
from device.inference.choice import choose
from device.inference.pool import open_beside, settings_beside
from device.library import catalog
from device.library.catalog import Model
from device.pipeline.channel import PREDICTIONS, ChannelSettings, head_of, prove
from device.pipeline.classifier import Classifier
from device.pipeline.groups import groups_in_force
from device.pipeline.words import check_named, nearest

_log = logging.getLogger("labelcam.node")

# The sensor of persons that ships.
_SENSOR = "mobilenet-v1-person-96"


class Plan(NamedTuple):
    """The model of each camera by what ``model_of`` says, and every label that can be reported."""

    models: dict[config.Model, Model]
    labels: frozenset[str]


def plan(settings: config.Config) -> Plan:
    """What the channels will be made of.

    Raises ModelError, LabelsError or ConfigError where a camera has no model or no label.
    """
    shared = shared_settings(settings)
    models: dict[config.Model, Model] = {}
    labels, known, classes = {settings.decide.unknown}, set[str](), dict[str, str]()
    for camera in settings.camera:
        chosen = model_of(settings, camera)
        if chosen not in models:
            models[chosen] = find_model(settings, chosen.name, chosen.labels)
        model, controls = models[chosen], configured_controls(settings, camera)
        for stream in streams(camera):
            decider = shared.decider(model, head_of(stream, model), controls)
            labels.update(decider.names)
            known |= decider.known
            classes |= decider.classes
        # Where what was taught alone rules, settings of the model's own words rest and are no
        # error; what is allowed may be of what was taught alone.
        with contextlib.suppress(ConfigError, ModelError):
            known |= shared.decider(model, None, controls).known
    check_named(settings.decide, known, classes)
    return Plan(models, frozenset(labels))


def find_model(settings: config.Config, name: str, labels: str = "") -> Model:
    """``catalog.find``, with the models that ``model.beside`` puts beside it.

    "auto" is the sensor of persons where everyday words are in force, if it can be had. A model
    that a camera or a command chose in place of the configured one is not beside itself.

    Raises what ``catalog.find`` raises, for each of them; ConfigError for one that is there
    already, ModelError for one without labels.
    """
    model = catalog.find(name, labels)
    wanted = settings.model.beside
    if wanted == "auto":
        others = _sensor() if groups_in_force(settings.decide, model.name) == "everyday" else []
    else:
        others = [catalog.find(other) for other in wanted]
    kept: list[Model] = []
    for other in others:
        if not other.labels:
            raise ModelError(
                other.name, "gives features alone and no labels to stand beside others"
            )
        if other.file.sha256 not in [one.file.sha256 for one in (model, *kept)]:
            kept.append(other)
        elif wanted != "auto" and name == settings.model.name:
            raise ConfigError("model.beside", f"{other.name} looks already; name each model once")
    return replace(model, beside=tuple(kept))


def _sensor() -> list[Model]:
    try:
        return [catalog.find(_SENSOR)]
    except LabelcamError as error:
        _log.warning("%s; going on without it", error)
        return []


def check_words(settings: config.Config, labels: Collection[str]) -> None:
    """Raise ConfigError for a word that the configuration waits for and that no camera says."""
    mqtt, snapshots = settings.mqtt, settings.snapshots
    for key, words in (
        ("mqtt.watch", mqtt.watch if mqtt.enabled else ()),
        ("snapshots.labels", snapshots.labels if snapshots.enabled else ()),
        *((f"action.{action.name}.labels", action.labels) for action in settings.action),
    ):
        for word in words:
            if word not in labels:
                name = settings.decide.alias.get(word, "")
                what = f"is called {name!r} here" if name else "is no label of the model"
                raise ConfigError(key, f"{word!r} {what}{nearest(word, labels)}")


def check_cameras(settings: config.Config) -> None:
    """Raise ConfigError for an action of a camera, or a region, that is not there."""
    cameras = [stream.name for camera in settings.camera for stream in streams(camera)]
    for action in settings.action:
        for name in action.cameras:
            if name not in cameras:
                raise ConfigError(
                    f"action.{action.name}.cameras",
                    f"no camera is named {name!r}{nearest(name, cameras)}",
                )


def check_labels(settings: config.Config) -> Plan:
    """As ``plan``, and raises ConfigError for a word or a camera that is waited for in vain."""
    made = plan(settings)
    check_cameras(settings)
    check_words(settings, made.labels)
    return made


def check_models(settings: config.Config) -> None:
    """Run the model of each camera, as a start would, on all but an Edge TPU: that is at work.

    Raises what ``check_labels`` and ``open_beside`` raise, and ModelError for a model that gives
    no probabilities.
    """
    for chosen, model in check_labels(settings).models.items():
        choice = choose(model.file, settings.model)
        engine = open_beside(model, settings.model, choice)
        runtime = engine.description.runtime if engine else settings.model.runtime
        for other in model.beside:
            its_engine = open_beside(other, settings_beside(settings.model, runtime))
            if its_engine is not None:
                with Classifier(other, its_engine) as classifier:
                    prove(classifier, other.name)
        if engine is None:
            continue
        with contextlib.closing(engine):
            for camera in settings.camera:
                for stream in streams(camera) if model_of(settings, camera) == chosen else ():
                    prove(Classifier(model, engine, stream), chosen.name)


def shared_settings(settings: config.Config) -> ChannelSettings:
    """What all channels share."""
    return ChannelSettings(
        settings.decide,
        settings.gate,
        settings.teach,
        max(PREDICTIONS, settings.terminal.top),
    )


def configured_controls(settings: config.Config, camera: config.Camera) -> Controls:
    """What is in force for a camera where no command changed it."""
    decide, model = settings.decide, model_of(settings, camera).name
    return Controls(True, decide.enter, decide.exit, settings.gate.max_fps, model, camera.region)


def model_of(settings: config.Config, camera: config.Camera) -> config.Model:
    """``[model]``, with the camera's own in place of its name and labels."""
    if not camera.model:
        return settings.model
    return msgspec.structs.replace(settings.model, name=camera.model, labels=camera.labels)


def streams(camera: config.Camera) -> list[config.Camera]:
    """The camera, or one of each of its regions, named ``camera/region``."""
    return [
        msgspec.structs.replace(
            camera,
            name=f"{camera.name}/{r.name}",
            region=r.box,
            regions=(),
            lessons=r.lessons or camera.lessons,
        )
        for r in camera.regions
    ] or [camera]
