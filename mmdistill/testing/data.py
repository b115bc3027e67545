"""Where real data for tests are, if there are any."""

import os
from pathlib import Path

VARIABLE = 'MMDISTILL_DATA'


def real_data(name: str) -> Path | None:
    """A folder of real data below ``$MMDISTILL_DATA``.

    Args:
        name: folder name, for instance ``kitti``.

    Returns:
        The folder, or None when the variable is not set or the folder does not exist.
    """
    root = os.environ.get(VARIABLE)
    folder = Path(root).expanduser() / name if root else None
    return folder if folder is not None and folder.is_dir() else None
