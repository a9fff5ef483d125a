"""Puts the models, labels and footage that come with labelcam into the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
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


setup(cmdclass={"build_py": BuildWithModels})
