# A mouse in an open field, seen from above (Mathis et al., "DeepLabCut: markerless pose estimation
# of user-defined body parts with deep learning", Nature Neuroscience 2018).
dataset_info = dict(
    dataset_name='openfield',
    keypoint_info={
        0: dict(name='snout', id=0, color=[255, 128, 0], type='upper', swap=''),
        1: dict(name='leftear', id=1, color=[0, 255, 0], type='upper', swap='rightear'),
        2: dict(name='rightear', id=2, color=[255, 128, 0], type='upper', swap='leftear'),
        3: dict(name='tailbase', id=3, color=[51, 153, 255], type='lower', swap=''),
    },
    skeleton_info={
        0: dict(link=('snout', 'leftear'), id=0, color=[0, 255, 0]),
        1: dict(link=('snout', 'rightear'), id=1, color=[255, 128, 0]),
        2: dict(link=('leftear', 'tailbase'), id=2, color=[51, 153, 255]),
        3: dict(link=('rightear', 'tailbase'), id=3, color=[51, 153, 255]),
    },
    joint_weights=[1.0] * 4,
    # No values are published; only an OKS metric would read them.
    sigmas=[0.05] * 4,
)
