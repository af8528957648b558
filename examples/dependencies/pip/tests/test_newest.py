import pytest

from newest import newest


@pytest.mark.parametrize("versions, want", [(["1.2", "1.10"], "1.10"), (["2.0rc1", "1.9"], "2.0rc1"), (["2.0", "2.0rc1"], "2.0")])
def test_newest(versions, want):
    assert newest(versions) == want


def test_nothing():
    with pytest.raises(ValueError):
        newest([])
