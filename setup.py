"""Everything stands in pyproject.toml; a wheel without the built page is refused."""

from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel


class WheelWithPage(bdist_wheel):
    """A wheel that holds the page of gateway and silo console."""

    def run(self) -> None:
        """SystemExit when the page is not built."""
        if not Path("gateway/ui/dist/index.html").exists():
            raise SystemExit("the page is not built: run scripts/page, then build the wheel again")
        super().run()


setup(cmdclass={"bdist_wheel": WheelWithPage})
