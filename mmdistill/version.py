"""The version of mmdistill."""

__version__ = '0.1.0'
