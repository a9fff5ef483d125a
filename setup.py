"""Puts the models, labels and footage that come with labelcam into the wheel."""

import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py


class BuildWithModels(build_py):
    """Copies what the device needs of ``models/`` to ``device/_models``; its tools stay out.

    A checkout, and an editable install of it, has them in ``models/`` itself.
    """

    def run(self) -> None:
        """Build the package."""
        super().run()
        if not self.editable_mode:
            shutil.copytree(
                "models",
                Path(self.build_lib) / "device" / "_models",
                ignore=shutil.ignore_patterns(
                    "*.py", "__pycache__", "*ranges*", "requirements.txt"
                ),
                dirs_exist_ok=True,
            )


class SameBytes(bdist_wheel):
    """Gives the same wheel wherever it is built: modes are not the checkout's, nor times.

    The time of its files is SOURCE_DATE_EPOCH, or else 1980, where those of zip archives begin.
    """

    def run(self) -> None:
        """Build the wheel."""
        os.environ.setdefault("SOURCE_DATE_EPOCH", "315532800")
        super().run()

    def write_wheelfile(self, wheelfile_base: str, *args: str) -> None:
        """Write the last of its files, and give all of them plain modes."""
        super().write_wheelfile(wheelfile_base, *args)
        for path in Path(wheelfile_base).parent.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)


_DEVICE = find_packages(include=["device", "device.*"], exclude=["device.labelcam"])

setup(
    cmdclass={"build_py": BuildWithModels, "bdist_wheel": SameBytes},
    # What programs import has the product's name, and lies with the rest in a checkout.
    packages=["labelcam", *_DEVICE],
    package_dir={"labelcam": "device/labelcam"},
)
