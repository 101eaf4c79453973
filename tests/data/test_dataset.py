import pytest

from segjax.data.dataset import LazyRecords


def test_records_are_read_when_asked_for_and_slices_read_none():
    read = []

    def square(place):
        read.append(place)
        return {"name": str(place * place)}

    records = LazyRecords(square, range(6))
    part = records[4:1:-1][1:]
    assert read == []
    assert len(part) == 2
    assert [record["name"] for record in part] == ["9", "4"]
    assert read == [3, 2]
    assert records[-1]["name"] == "25"


@pytest.mark.parametrize("index", [2, -3])
def test_index_outside_is_refused(index):
    records = LazyRecords(lambda place: {}, range(5))[1:3]
    with pytest.raises(IndexError, match=rf"record {index} of 2"):
        records[index]
