"""What a model file is made of, what would run it, and what is wrong with it, in words."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from device import config
from device.errors import LabelcamError, LabelsError
from device.events import Tensor
from device.inference import proof
from device.inference.interpreter import Interpreter
from device.library import catalog, tflite_file
from device.library.tflite_file import EDGETPU_OP, TfliteFile

# BuiltinOperator of the TensorFlow Lite schema, in the order of its codes.
_OPERATORS = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1
RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM
CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM
CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE
SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW
ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR
LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS
WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG
REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL
BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN
""".split()  # noqa: SIM905 - as a list it fills three screens
# What Coral's compiler takes, on conditions that only it can check, from
# https://coral.ai/docs/edgetpu/models-intro/#supported-operations
_ON_EDGETPU = set(
    """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED
L2_NORMALIZATION LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE
REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH
TRANSPOSE TRANSPOSE_CONV
""".split()  # noqa: SIM905 - as above
)
_SHOWN_LABELS = 5

# What it is about, in a word, and what there is to say of it.
Fact = tuple[str, str]


def explain(name: str, labels: str = "") -> tuple[list[Fact], list[str]]:
    """What there is to know of the model, and what is wrong with it as a classifier.

    ``name`` and ``labels`` are as in catalog.find. Raises ModelError for what is no model
    file at all.
    """
    entry = catalog.entries().get(name)
    if entry and not catalog.locate(entry.cpu.file).exists():
        # Not an error: what the catalogue has to say is what may make one fetch it.
        return [*_catalogued(entry), ("on disk", f"no; {catalog.how_to_get(name)}")], []
    path = catalog.locate(entry.cpu.file) if entry else Path(name)
    file = tflite_file.read(path)
    known = entry or catalog.known_by(file.sha256)
    problems: list[str] = []
    lines: list[Fact] = [
        ("file", str(path)),
        ("size", f"{file.size_bytes:,} bytes"),
        ("SHA-256", file.sha256),
    ]
    lines += _catalogued(known) if known else [("catalogue", "does not know it")]
    lines += _ends(file)
    kinds = Counter(_kinds(file))
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    lines.append(("operators", f"{len(file.operators)}: {listed}"))
    lines.append(("XNNPACK", _on_xnnpack(file, problems)))
    lines.append(("Edge TPU", _on_edgetpu(file)))
    lines.append(("teach", _teachable(file)))
    lines.append(("labels", _labels(name, labels, problems)))
    return lines, problems


def _catalogued(entry: catalog.Entry) -> Iterator[Fact]:
    name = next(name for name, one in catalog.entries().items() if one is entry)
    yield "catalogue", f"{name}: {entry.summary}"
    yield "family", f"{entry.family}; licence {entry.licence}"
    for heading in ("published", "measured"):
        facts = getattr(entry, heading)
        if facts:
            yield heading, ", ".join(f"{k} {v}" for k, v in facts.items())
    if entry.edgetpu:
        here = catalog.locate(entry.edgetpu.file)
        yield "twin", str(here) if here.exists() else f"not here; {catalog.how_to_get(name)}"


def _ends(file: TfliteFile) -> Iterator[Fact]:
    for index in file.inputs:
        yield "input", _tensor(file.tensors[index])
    for index in file.outputs:
        if file.embedding is not None and index == file.outputs[file.embedding]:
            meaning = "features to teach on"
        else:
            meaning = (
                "probabilities" if file.gives_probabilities(index) else "no softmax at its end"
            )
        yield "output", f"{_tensor(file.tensors[index])}; {meaning}"


def _teachable(file: TfliteFile) -> str:
    if file.embedding is None:
        return "no: it gives no features; efficientnet-lite0-224-int8 does"
    count = file.tensors[file.outputs[file.embedding]].shape[-1]
    return f"yes, on {count} features; see `labelcam teach --help`"


def _tensor(tensor: Tensor) -> str:
    text = f"{tensor.name or 'without a name'}: {tensor.dtype} {list(tensor.shape)}"
    if not tensor.scale:
        return f"{text}, not quantized"
    if tensor.dtype == "float32":
        return f"{text}, quantized inside with scale {tensor.scale:.6g}"
    return f"{text}, scale {tensor.scale:.6g}, zero point {tensor.zero_point}"


def _kinds(file: TfliteFile) -> Iterator[str]:
    for operator in file.operators:
        if operator.custom:
            yield operator.custom
        elif operator.code < len(_OPERATORS):
            yield _OPERATORS[operator.code]
        else:
            yield f"operator {operator.code}"


def _on_xnnpack(file: TfliteFile, problems: list[str]) -> str:
    """Asks the runtime itself: what is delegated depends on its version."""
    if file.compiled_for_edgetpu:
        return "none of it: compiled for the Edge TPU, it runs nowhere else"
    settings = config.Model(delegate="auto", threads=1)
    try:
        proof.prove(file, settings)
        with Interpreter(file, settings) as interpreter:
            found = interpreter.description
    except LabelcamError as error:
        problems.append(str(error))
        return "cannot be asked: the model does not load"
    rest = f"; not {', '.join(found.on_cpu)}" if found.on_cpu else ""
    taken = f"{found.operators_delegated} of {found.operators_total} operators"
    return f"takes {taken}{rest} ({found.runtime} {found.version})"


def _on_edgetpu(file: TfliteFile) -> str:
    if file.compiled_for_edgetpu:
        rest = [kind for kind in _kinds(file) if kind != EDGETPU_OP]
        return "compiled for it" + (f"; on the CPU: {', '.join(rest)}" if rest else ", all of it")
    # float32 ends are cut off by a QUANTIZE and a DEQUANTIZE that stay on the CPU.
    inner = [
        node
        for node, kind in zip(file.operators, _kinds(file), strict=True)
        if kind not in ("QUANTIZE", "DEQUANTIZE")
    ]
    used = {i for node in inner for i in (*node.inputs, *node.outputs) if i >= 0}
    floats = [file.tensors[i] for i in used if file.tensors[i].dtype.startswith("float")]
    if floats:
        return f"none of it: not full INT8 ({len(floats)} tensors of {floats[0].dtype})"
    kinds = list(_kinds(file))
    foreign = [k for k in dict.fromkeys(kinds) if k not in _ON_EDGETPU and k != "DEQUANTIZE"]
    if not foreign:
        return "all operators are on Coral's list; compile it with edgetpu_compiler"
    # The compiler cuts the graph once: what comes after the first that it cannot take is lost.
    first = min(kinds.index(kind) for kind in foreign)
    taken = f"only the first {first} operators" if first else "none of it"
    return f"{taken}: {', '.join(foreign)} not on Coral's list"


def _labels(name: str, labels: str, problems: list[str]) -> str:
    try:
        model = catalog.find(name, labels)
    except LabelsError as error:
        problems.append(str(error))
        return "none that fit"
    except LabelcamError as error:
        problems.append(str(error))
        return "not looked for: it is no classifier"
    if not model.labels:
        return "what it is taught: it gives features alone"
    shown = ", ".join(model.labels[:_SHOWN_LABELS])
    more = ", …" if len(model.labels) > _SHOWN_LABELS else ""
    return f"{len(model.labels)}: {shown}{more} ({model.labels_from})"
