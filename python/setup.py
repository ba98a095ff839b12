"""Puts the `causeway` binary into the wheel, where it has been built; pyproject.toml says all the rest."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

BINARY = Path(__file__).resolve().parent.parent / "build" / "release" / "causeway"


class BuildWithBinary(build_py):
    """Copies the binary into the package. An editable install finds it in the checkout instead."""

    def run(self) -> None:
        super().run()
        if BINARY.exists() and not self.editable_mode:
            target = Path(self.build_lib) / "causeway" / "bin" / BINARY.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(BINARY, target)


class WheelWithBinary(bdist_wheel):
    """Names the platform, which the binary needs; any Python 3 will do."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(cmdclass={"build_py": BuildWithBinary, "bdist_wheel": WheelWithBinary})
