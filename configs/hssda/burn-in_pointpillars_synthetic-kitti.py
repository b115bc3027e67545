# Supervised training from scratch on the labelled frames: where every other run starts.
_base_ = ['./supervised_pointpillars_synthetic-kitti.py']
load_from = None
