"""The names of a model's outputs, and the contract between the two.

Label files with and without a "background" first row are the commonest mistake in the
field: every label is then the neighbour of the right one. The count must match, and where
it is off by that one row the message says so.
"""

import zlib
from collections import Counter
from pathlib import Path

from device.errors import LabelsError
from device.system.files import read_file

_MAX_BYTES = 4 << 20


def read_labels(path: Path) -> tuple[str, ...]:
    """The names in a label file, one a line, UTF-8; blank lines at the end do not count.

    A leading number, as in ``0 tench`` or ``0: tench``, is an index and is left out when
    every line has its own. A name that stands on several lines, as "crane" the bird and
    "crane" the machine do in ImageNet's, gets the number of its row: ``crane (134)``.

    Raises LabelsError for a file that is missing, not text, empty, or has a blank name.
    """
    try:
        data = read_file(path, _MAX_BYTES)
    except FileNotFoundError:
        raise LabelsError(path, "no such label file") from None
    except OSError as error:
        raise LabelsError(
            path, f"cannot be read: {error.strerror}; expected a text file with a name a line"
        ) from None
    return _parse(data, path)


def embedded_labels(model: Path) -> tuple[str, ...] | None:
    """The names in a label file that the model carries with it, or None where it has none.

    TFLite metadata packs its files as a zip archive behind the model, so that one file is
    both: https://www.tensorflow.org/lite/models/convert/metadata. Of several text files the
    first with "label" in its name counts, else the first. Raises LabelsError.
    """
    import zipfile

    try:
        with zipfile.ZipFile(model) as archive:
            texts = [f for f in archive.infolist() if f.filename.endswith(".txt")]
            if not texts:
                return None
            chosen = next((f for f in texts if "label" in f.filename.lower()), texts[0])
            where = f"{model}:{chosen.filename}"
            # The archive says how much that is before anything is unpacked.
            if chosen.file_size > _MAX_BYTES:
                raise LabelsError(where, "is over 4 MB; expected a text file with a name a line")
            data = archive.read(chosen)
    except zipfile.BadZipFile:
        return None  # as of nearly every model: nothing is packed behind it
    # zipfile lets all of these out for an archive that is damaged.
    except (OSError, RuntimeError, EOFError, ValueError, zlib.error) as error:
        raise LabelsError(model, f"carries labels that cannot be unpacked: {error}") from None
    return _parse(data, where)


def _parse(data: bytes, where: object) -> tuple[str, ...]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelsError(where, f"is not UTF-8 text (byte {error.start})") from None
    names = [line.strip() for line in text.rstrip().splitlines()]
    numbered = [name.partition(" ") for name in names]
    if all(head.rstrip(":") == str(row) for row, (head, _, _) in enumerate(numbered)):
        names = [rest.strip() for _, _, rest in numbered]
    if not any(names):
        raise LabelsError(where, "is empty; expected a name a line")
    if "" in names:
        raise LabelsError(where, f"line {names.index('') + 1} is blank; every output needs a name")
    times = Counter(names)
    return tuple(f"{name} ({row})" if times[name] > 1 else name for row, name in enumerate(names))


def check_labels(names: tuple[str, ...], outputs: int, path: object, model: object) -> None:
    """Raise LabelsError unless there is a name for each of the model's outputs."""
    if len(names) == outputs:
        return
    problem = f"has {len(names)} names for the {outputs} outputs of {model}"
    if len(names) == outputs - 1 and names[0] != "background":
        problem += '; the model has a "background" class: add it as the first line'
    elif len(names) == outputs + 1 and names[0] == "background":
        problem += '; the model has no "background" class: remove the first line'
    elif len(names) == outputs + 1:
        problem += "; it is one line too long"
    elif len(names) == outputs - 1:
        problem += "; it is one line too short"
    else:
        problem += "; give the label file that came with the model"
    raise LabelsError(path, problem)
