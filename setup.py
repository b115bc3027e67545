"""Builds mmdistill; the metadata is in pyproject.toml, this file adds what mim looks for.

``mim`` finds configs and tools in ``mmdistill/.mim``. A wheel gets copies of them, an
editable install (``pip install -e .`` and ``setup.py develop``) gets links into the checkout.
"""

import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop

ROOT = Path(__file__).resolve().parent
MIM_CONTENT = ('configs', 'tools', 'model-index.yml')


def link_mim(folder: Path) -> None:
    """Fills ``folder`` with relative links to what mim needs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MIM_CONTENT:
        link, fresh = folder / name, folder / f'.{name}.{os.getpid()}'
        if link.is_dir() and not link.is_symlink():
            shutil.rmtree(link)
        fresh.symlink_to(os.path.relpath(ROOT / name, folder))
        os.replace(fresh, link)


def copy_mim(folder: Path) -> None:
    """Fills ``folder`` with copies of what mim needs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in MIM_CONTENT:
        source = ROOT / name
        if source.is_dir():
            skip = shutil.ignore_patterns('__pycache__', '*.pyc')
            shutil.copytree(source, folder / name, ignore=skip)
        else:
            shutil.copyfile(source, folder / name)


class BuildWithMim(build_py):
    """Adds ``.mim`` to a wheel, or to the checkout when the install is editable."""

    def run(self) -> None:
        """Builds the package, then its ``.mim`` folder."""
        super().run()
        if getattr(self, 'editable_mode', False):
            link_mim(ROOT / 'mmdistill' / '.mim')
        else:
            copy_mim(Path(self.build_lib, 'mmdistill', '.mim'))


class DevelopWithMim(develop):
    """Adds ``.mim`` to the checkout for ``setup.py develop``, which runs no build."""

    def run(self) -> None:
        """Installs the links, then ``.mim``."""
        super().run()
        link_mim(ROOT / 'mmdistill' / '.mim')


setup(cmdclass={'build_py': BuildWithMim, 'develop': DevelopWithMim})
