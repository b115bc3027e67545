"""Real data are found through one variable only."""

from mmdistill.testing import real_data


def test_folder_below_the_variable(tmp_path, monkeypatch):
    (tmp_path / 'kitti').mkdir()
    (tmp_path / 'file').touch()
    monkeypatch.setenv('MMDISTILL_DATA', str(tmp_path))
    assert real_data('kitti') == tmp_path / 'kitti'
    assert real_data('waymo') is None
    assert real_data('file') is None


def test_none_without_the_variable(tmp_path, monkeypatch):
    (tmp_path / 'kitti').mkdir()
    monkeypatch.chdir(tmp_path)
    for value in (None, ''):
        monkeypatch.delenv('MMDISTILL_DATA', raising=False)
        if value is not None:
            monkeypatch.setenv('MMDISTILL_DATA', value)
        assert real_data('kitti') is None
