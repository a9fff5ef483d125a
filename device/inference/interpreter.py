"""Which runtime and which delegate run the model, and the proof of what is engaged.

What a runtime prints about delegates proves nothing; a DELEGATE node in the prepared graph
does. ``Interpreter.description`` is read from there.
"""

import contextlib
import ctypes
import logging
import mmap
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, Self

import msgspec
from numpy.typing import NDArray

from device.config import Model as Settings
from device.errors import DelegateError, InferenceError, ModelError, UsageError
from device.events import Accelerator, Description
from device.inference.runtimes import (
    DELEGATES,
    Choice,
    DelegateRequest,
    NativeDelegate,
    OpenedDelegate,
    Runtime,
    import_runtime,
)
from device.library.tflite_file import TfliteFile
from device.system.stderr import caught

_log = logging.getLogger("labelcam.interpreter")

# More are never faster, and each takes memory: ten thousand would end the process.
MAX_THREADS = 64


class Engine(Protocol):
    """What runs a model: an Interpreter, or one that stands for others."""

    @property
    def description(self) -> Description:
        """What the next frame runs on, or the last one ran on after ``close``."""

    def input(self) -> NDArray[Any]:
        """The input tensor's own memory; the view must be gone before ``invoke``."""

    def invoke(self) -> None:
        """Run the model once. Raises InferenceError."""

    def output(self, number: int = 0) -> NDArray[Any]:
        """A copy of output ``number`` of the last ``invoke``."""

    @property
    def accelerator(self) -> Accelerator | None:
        """How an Edge TPU beside the CPU is; None where it is not so."""

    def close(self) -> None:
        """Free everything; may be called twice. Its use is an InferenceError from then on."""


class Interpreter:
    """A model ready to run: fill the input in place, invoke, read the outputs.

    Not thread-safe: one thread at a time. On an Edge TPU the same thread must make it, run it
    and close it. ``reason`` of the description says why it was made that way.
    """

    def __init__(self, model: TfliteFile, settings: Settings, choice: Choice | None = None) -> None:
        """Load ``model`` on the runtime and delegate that ``settings`` name.

        ``choice`` is what stands for ``auto`` in them where that was measured. A model that is
        compiled for the Edge TPU runs there and nowhere else.

        Raises DependencyError where no runtime is installed, DelegateError where a delegate
        asked for by name does not engage, ModelError where the runtime refuses the model,
        UsageError for a number of threads that cannot be.
        """
        if not 0 <= settings.threads <= MAX_THREADS:
            raise UsageError(
                f"threads = {settings.threads}: expected 1 to {MAX_THREADS}, or 0 to let "
                "labelcam choose"
            )
        if choice:
            settings = choice.apply_to(settings)
        self._model = model
        self._runtime: Runtime
        self._runtime, module = import_runtime(settings.runtime)
        self._version: str = sys.modules[module.__name__.partition(".")[0]].__version__
        self._delegate: NativeDelegate | None = None
        self._device = ""
        self._last_error = ""
        self._interpreter: Any
        threads = settings.threads or 1
        if model.compiled_for_edgetpu and settings.delegate not in ("auto", "edgetpu"):
            raise ModelError(
                model.path.name,
                "is compiled for the Edge TPU and runs nowhere else; use its CPU twin "
                f'(the file without _edgetpu) or delegate = "auto", not "{settings.delegate}"',
            )
        if settings.delegate == "edgetpu" and not model.compiled_for_edgetpu:
            raise DelegateError(
                f"delegate edgetpu: model {model.path.name} is not compiled for the Edge TPU; "
                'use its _edgetpu twin or delegate = "auto"'
            )
        try:
            reason = self._load(module, settings, threads)
            self._input: int = self._interpreter.get_input_details()[0]["index"]
            self._outputs: list[int] = [d["index"] for d in self._interpreter.get_output_details()]
            self.description = self._describe(threads, reason)
            if choice and self.description.delegate == choice.best.delegate:
                self.description = msgspec.structs.replace(self.description, reason=choice.reason)
            if self.description.delegate == "xnnpack":
                _drop_pages(model.path)
            if settings.delegate == "xnnpack" and not self.description.operators_delegated:
                raise DelegateError(
                    f"delegate xnnpack: took none of the {self.description.operators_total} "
                    f'operators of {model.path.name}; use delegate = "auto"'
                )
        except BaseException:
            self.close()
            raise

    def _load(self, module: ModuleType, settings: Settings, threads: int) -> str:
        """Make the interpreter; returns why it was made that way."""
        kind = "edgetpu" if self._model.compiled_for_edgetpu else settings.delegate
        kind = "xnnpack" if kind == "auto" else kind
        if kind == "none":
            self._make(module, threads, plain=True)
            return "delegates turned off"
        if kind == "xnnpack" and self._runtime == "ai-edge-litert":
            # Its default delegate takes quantized graphs by itself.
            self._make(module, threads, plain=False)
            return "default delegate of the runtime"
        runtime = f"{self._runtime} {self._version}"
        request = DelegateRequest(self._model, settings, threads, runtime, module.__name__)
        try:
            with self._quiet():
                opened: OpenedDelegate = import_module(DELEGATES[kind]).open_delegate(request)
        except DelegateError as error:
            if settings.delegate == kind:
                raise
            return self._load_without(module, threads, error)
        self._delegate, self._device = opened.delegate, opened.device
        self._make(module, 1 if self._device else threads, plain=True)
        return opened.reason

    def _load_without(self, module: ModuleType, threads: int, error: DelegateError) -> str:
        if self._model.compiled_for_edgetpu:
            raise ModelError(
                self._model.path.name,
                "is compiled for the Edge TPU and runs nowhere else; "
                f"{str(error).removeprefix('delegate edgetpu: ')}; "
                "or use its CPU twin (the file without _edgetpu)",
            ) from None
        _log.warning("%s; going on with the built-in kernels", error)
        self._make(module, threads, plain=True)
        return str(error)

    def _quiet(self) -> contextlib.AbstractContextManager[list[str]]:
        """Keeps off the screen what the runtime prints.

        Not so with an Edge TPU: it is opened while other threads work, and what they say must
        come through.
        """
        if self._model.compiled_for_edgetpu:
            return contextlib.nullcontext([])
        return _runtime_stderr()

    def _make(self, module: ModuleType, threads: int, *, plain: bool) -> None:
        resolver = module.OpResolverType
        with self._quiet() as printed:
            try:
                self._interpreter = module.Interpreter(
                    model_path=str(self._model.path),
                    num_threads=threads,
                    experimental_delegates=[self._delegate] if self._delegate else None,
                    experimental_op_resolver_type=(
                        resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else resolver.AUTO
                    ),
                )
                self._interpreter.allocate_tensors()
            except (ValueError, RuntimeError) as error:
                raise ModelError(
                    self._model.path.name, self._refusal(_first_line(str(error), printed))
                ) from None

    def _refusal(self, message: str) -> str:
        if self._model.compiled_for_edgetpu:
            from device.inference.edgetpu.delegate import refusal_cause

            if cause := refusal_cause(message, f"{self._runtime} {self._version}"):
                return cause
        return (
            f"{self._runtime} cannot prepare it: {message}; "
            "use a TensorFlow Lite model with built-in operators"
        )

    def _describe(self, threads: int, reason: str) -> Description:
        nodes: Sequence[dict[str, Any]] = self._interpreter._get_ops_details()
        operators = [n for n in nodes if n["op_name"] != "DELEGATE"]
        delegated = _delegated(nodes)
        kinds = dict.fromkeys(n["op_name"] for n in operators if n["index"] not in delegated)
        return Description(
            model=self._model.path.stem,
            runtime=self._runtime,
            version=self._version,
            delegate=("edgetpu" if self._device else "xnnpack") if delegated else "none",
            operators_delegated=len(delegated),
            operators_total=len(operators),
            on_cpu=tuple(kinds),
            threads=threads,
            inputs=tuple(self._model.tensors[i] for i in self._model.inputs),
            outputs=tuple(self._model.tensors[i] for i in self._model.outputs),
            reason=reason,
            device=self._device,
        )

    def input(self) -> NDArray[Any]:
        """The input tensor's own memory, shape and dtype as in ``description.inputs[0]``.

        The view must be gone before ``invoke``: the runtime refuses to run while one lives.
        """
        view: NDArray[Any] = self._loaded.tensor(self._input)()
        return view

    def invoke(self) -> None:
        """Run the model once; releases the GIL. Raises InferenceError."""
        interpreter = self._loaded
        try:
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            # tflite-runtime says each time what it said before as well.
            text, before = str(error), self._last_error
            self._last_error = text
            raise InferenceError(
                f"model {self._model.path.name}: failed in invoke() on {self._runtime}: "
                f"{_first_line(text.removeprefix(before) or text)}"
            ) from None

    def output(self, number: int = 0) -> NDArray[Any]:
        """A copy of output ``number``, shape and dtype as in ``description.outputs``."""
        values: NDArray[Any] = self._loaded.get_tensor(self._outputs[number])
        return values

    @property
    def _loaded(self) -> Any:
        if self._interpreter is None:
            raise InferenceError(f"model {self._model.path.name}: was used after it was closed")
        return self._interpreter

    @property
    def accelerator(self) -> None:
        """Nothing stands beside it."""

    def close(self) -> None:
        """Free the model and then its delegate, in the order that the runtime needs."""
        self._interpreter = None
        if self._delegate:
            self._delegate.close()
            self._delegate = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _delegated(nodes: Sequence[dict[str, Any]]) -> set[int]:
    """Indices of the operators that DELEGATE nodes stand for.

    The graph keeps the operators that a delegate took, without saying so: they are those
    on the way back from the delegate's outputs to its inputs.
    """
    maker = {
        int(tensor): node
        for node in nodes
        if node["op_name"] != "DELEGATE"
        for tensor in node["outputs"]
    }
    delegated: set[int] = set()
    for node in nodes:
        if node["op_name"] != "DELEGATE":
            continue
        edge = {int(t) for t in node["inputs"]}
        todo = [int(t) for t in node["outputs"]]
        while todo:
            tensor = todo.pop()
            operator = maker.get(tensor)
            if tensor in edge or operator is None or operator["index"] in delegated:
                continue
            delegated.add(operator["index"])
            todo.extend(int(t) for t in operator["inputs"])
    return delegated


def _drop_pages(path: Path) -> None:
    """Give back the memory of a mapped model whose weights its delegate has copied.

    The runtime keeps the file mapped, read-only: a page that is looked at again comes back
    from the file. Saves the file's size in resident memory, 5 MB for the embedded model.
    """
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    mapped = str(path.resolve())
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, _, *name = line.split(maxsplit=5)
        if name == [mapped]:
            start, end = (int(address, 16) for address in span.split("-"))
            madvise(start, end - start, mmap.MADV_DONTNEED)


def _first_line(error: str, printed: Sequence[str] = ()) -> str:
    """The runtime's own words on one line, from its error or else from what it printed."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    lines += [line for line in printed if line.startswith("ERROR")]
    if not lines:
        return "no reason given"
    # The operator's own words and the runtime's follow each other without a space.
    return re.sub(r"(?<=\S)Node number", "; node number", lines[0].rstrip("."))


@contextlib.contextmanager
def _runtime_stderr() -> Iterator[list[str]]:
    """Keep what the runtime's C++ prints while it loads off the user's screen.

    The lines are in the list afterwards and in the debug log.
    """
    printed: list[str] = []
    try:
        with caught() as lines:
            yield printed
    finally:
        printed.extend(line.decode("utf-8", "replace").rstrip("\n") for line in lines)
    for line in printed:
        _log.debug("%s", line)
