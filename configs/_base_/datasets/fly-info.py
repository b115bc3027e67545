# A walking fruit fly, seen from above (Pereira et al., "Fast animal pose estimation using deep
# neural networks", Nature Methods 2019), as tools/dataset_converters/make_fly.py writes it.
__legs = [f'{leg}leg' for leg in ('fore', 'mid', 'hind')]
__middle = ['head', 'eyeL', 'eyeR', 'neck', 'thorax', 'abdomen']
__feet = [f'{leg}{side}{n}' for side in 'RL' for leg in __legs for n in '1234']
__names = [*__middle, *__feet, 'wingL', 'wingR']
__other = {'L': 'R', 'R': 'L'}
__swaps = {name: name[:-2] + __other[name[-2]] + name[-1] for name in __feet}
__swaps.update(eyeL='eyeR', eyeR='eyeL', wingL='wingR', wingR='wingL')
__links = [('head', 'eyeL'), ('head', 'eyeR'), ('head', 'neck'), ('neck', 'thorax')]
__links += [('thorax', 'abdomen'), ('neck', 'wingL'), ('neck', 'wingR')]
__links += [(name, name[:-1] + str(int(name[-1]) + 1)) for name in __feet if name[-1] != '4']

dataset_info = dict(
    dataset_name='fly',
    keypoint_info={
        i: dict(name=name, id=i, color=[255, 255, 255], type='', swap=__swaps.get(name, ''))
        for i, name in enumerate(__names)
    },
    skeleton_info={
        i: dict(link=link, id=i, color=[255, 255, 255]) for i, link in enumerate(__links)
    },
    joint_weights=[1.0] * 32,
    # No values are published; only an OKS metric would read them.
    sigmas=[0.05] * 32,
)
