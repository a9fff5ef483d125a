"""The same surfaces, led by coverage: ``python -m tests.fuzz.guided SURFACE -max_total_time=60``.

Needs atheris, which has wheels for a few Pythons on x86-64 only. What follows the surface is
libFuzzer's; what ends the run is left in the folder as ``crash-…`` and ``timeout-…``.
"""

import sys
import tempfile
from pathlib import Path


def main() -> None:
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed; pip install atheris, where it has a wheel")
    with atheris.instrument_imports(include=["device"]):
        from tests.fuzz.worker import input_of, opened

    name, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="labelcam-fuzz-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        with opened(name, Path(folder)) as surface:
            for number in range(100):
                (corpus / str(number)).write_bytes(input_of(surface, 1, number))
            atheris.Setup([sys.argv[0], *options, str(corpus)], surface.feed)
            atheris.Fuzz()


if __name__ == "__main__":
    main()
