"""The HDF5 files that are written: read by h5py and by the reader here, changed by h5py."""

import io

import numpy as np
import pytest

from fastrnn.saving import hdf5_reader, hdf5_writer

LONG = "ä€" * 100_000  # more than the 64 KB that a header holds
NAMES = [b"a", b"bcd", b""]


def root(links=3):
    """A group with all that is written. links: of one group, whose tree then has levels."""
    root = hdf5_writer.Group()
    group = root.create_group("layers/dense/vars")
    for i in range(links):
        group[str(i)] = np.full((2, 3), i, np.float32)
    group.attributes["name"] = "dense"
    for dtype in "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 >f4 >i8".split():
        root[f"types/{dtype}"] = np.arange(5).astype(dtype)
    root["number"] = np.array(7, np.int64)
    root["empty"] = np.zeros((0, 3), np.float32)
    root["by/columns"] = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    root.attributes.update(long=LONG, same="dense", empty="", names=NAMES, none=[])
    for i in range(5):
        root.attributes[f"many{i}"] = [b"x" * 1000] * 64
    return root


LINKS = [0, 1, 8, 9, 256, 257, 9000]  # a leaf has 8, a node 32 leaves or nodes


@pytest.mark.parametrize("links", LINKS)
def test_read_by_our_reader(links):
    file = hdf5_reader.File(root(links).to_bytes()).root
    assert file.strings("long") == [LONG] and file.strings("empty") == [""]
    assert file.strings("names") == ["a", "bcd", ""] and file.strings("none") == []
    group = file.group("layers/dense/vars")
    assert group.strings("name") == ["dense"] and len(group.links) == links
    for i in range(links):
        assert (group.array(str(i)) == i).all()
    assert file.array("number") == 7 and file.array("empty").shape == (0, 3)
    np.testing.assert_array_equal(file.array("by/columns"), np.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize("links", LINKS)
def test_read_by_h5py(links):
    h5py = pytest.importorskip("h5py", reason="needs h5py, to ask it")
    written = root(links)
    with h5py.File(io.BytesIO(written.to_bytes())) as file:
        found = []
        file.visit(found.append)
        assert len(found) == len(set(found)) == links + 21
        assert file.attrs["long"] == LONG
        assert file.attrs["empty"] == "" and file.attrs["same"] == "dense"
        assert list(file.attrs["names"]) == NAMES and list(file.attrs["none"]) == []
        for i in range(5):
            assert list(file.attrs[f"many{i}"]) == [b"x" * 1000] * 64
        group = file["layers/dense/vars"]
        assert group.attrs["name"] == "dense" and sorted(group) == list(group)
        for i in range(links):
            assert group[str(i)].dtype == np.float32 and (group[str(i)][()] == i).all()
        for name, array in written.members["types"].members.items():
            assert file["types"][name].dtype == array.dtype.newbyteorder("<")
            np.testing.assert_array_equal(file["types"][name], array)
        assert file["number"][()] == 7 and file["empty"].shape == (0, 3)
        np.testing.assert_array_equal(file["by/columns"], np.arange(12.0).reshape(3, 4))


@pytest.mark.parametrize("links", LINKS)
def test_changed_by_h5py(links):
    h5py = pytest.importorskip("h5py", reason="needs h5py, to change it")
    buffer = io.BytesIO(root(links).to_bytes())
    with h5py.File(buffer, "a") as file:
        group = file["layers/dense/vars"]
        for i in range(40):
            group[f"new{i}"] = np.full(3, i)
        for i in range(0, links, 2):
            del group[str(i)]
        del file["types"]
        file.attrs["long"] = "short"
        file.attrs["names"] = [b"y" * 1000]
    with h5py.File(buffer) as file:
        group = file["layers/dense/vars"]
        assert len(group) == 40 + links // 2
        assert all((group[str(i)][()] == i).all() for i in range(1, links, 2))
        assert all((group[f"new{i}"][()] == i).all() for i in range(40))
        assert "types" not in file and file.attrs["long"] == "short"


def test_same_content_same_bytes():
    assert root().to_bytes() == root().to_bytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g: g.create_group("layers/dense"), "'layers/dense' exists already"),
        (lambda g: g.__setitem__("number/x", 1), "'number' is a weight already"),
        (lambda g: g.__setitem__("x", np.array(["text"])), "expected numbers in 'x', received <U4"),
        (lambda g: g.attributes.update(x=[b"y" * 66000]), "attributes below 64 KB"),
    ],
)
def test_what_is_not_written(make, message):
    group = root()
    with pytest.raises(ValueError, match=message):
        make(group)
        group.to_bytes()
