"""What all tests of mmkd share."""

import os

os.environ.setdefault('HF_HUB_OFFLINE', '1')
