"""A writer of the part of HDF5 that Keras's files use, in the form that h5py writes by default.

Groups, arrays in one piece, and attributes that hold strings. The same content gives the same
bytes. Format: HDF5 File Format Specification, version 3.0, in its oldest form, which every reader
knows (https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html).
"""

import struct

import numpy as np

from fastrnn.saving.hdf5_reader import SIGNATURE

_NOWHERE = 2**64 - 1  # the address of what does not exist
_DATASPACE, _DATATYPE, _FILL_VALUE, _LAYOUT, _ATTRIBUTE, _SYMBOL_TABLE = (
    0x1,
    0x3,
    0x5,
    0x8,
    0xC,
    0x11,
)
_LEAF, _NODE = 8, 32  # links of a leaf, children of a node of the tree of a group
_MOST_OF_MESSAGE = 65528  # bytes
_LEAST_OF_HEAP = 4096  # bytes

# Properties of floating-point types: where the sign is; where exponent and mantissa begin and how
# wide they are, and the exponent's bias.
_FLOATS = {
    2: (15, (10, 5, 0, 10, 15)),
    4: (31, (23, 8, 0, 23, 127)),
    8: (63, (52, 11, 0, 52, 1023)),
}
# Of variable length, in UTF-8, of bytes.
_STRING = struct.pack("<BBBBI", 0x19, 1, 1, 0, 16) + struct.pack("<BBBBIHH", 0x10, 0, 0, 0, 1, 0, 8)


class Group:
    """What is to be written: `members`, name -> Group or array, and `attributes`, name -> a string
    or a list of bytes."""

    def __init__(self):
        self.members, self.attributes = {}, {}

    def create_group(self, path: str) -> "Group":
        """A new group at `path` below this one, with those on the way to it."""
        return self._put(path, Group())

    def __setitem__(self, path: str, array) -> None:
        self._put(path, np.asarray(array))

    def _put(self, path, thing):
        *groups, name = path.split("/")
        group = self
        for part in groups:
            group = group.members.setdefault(part, Group())
            if not isinstance(group, Group):
                raise ValueError(f"HDF5: {path!r}: {part!r} is a weight already, not a group")
        if name in group.members:
            raise ValueError(f"HDF5: {path!r} exists already; give layers names without a slash")
        group.members[name] = thing
        return thing

    def to_bytes(self) -> bytes:
        """The bytes of a file with this group as its root."""
        return _File().write(self)


class _File:
    def __init__(self):
        self.parts, self.size = [], 0
        self.places = {}  # string -> its number in the heap

    def write(self, root) -> bytes:
        self.append(bytes(96))  # the superblock
        self._find_strings(root)
        heap = self.append(self._heap()) if self.places else _NOWHERE
        address, tree, names = self.group(root, heap)
        self.parts[0] = SIGNATURE + struct.pack(
            "<8BHHIQQQQQQIIQQ", 0, 0, 0, 0, 0, 8, 8, 0, _LEAF // 2, _NODE // 2, 0, 0, _NOWHERE,
            self.size, _NOWHERE, 0, address, 1, 0, tree, names,
        )  # fmt: skip
        return b"".join(self.parts)

    def append(self, data) -> int:
        """Put data at the next multiple of 8 bytes; returns its address."""
        address, fill = self.size, -len(data) % 8
        self.parts.append(data)
        if fill:
            self.parts.append(bytes(fill))
        self.size += len(data) + fill
        return address

    # --- strings of variable length: all of them in one heap ---

    def _find_strings(self, group):
        for value in group.attributes.values():
            if isinstance(value, str):
                self.places.setdefault(value, len(self.places) + 1)
        for member in group.members.values():
            if isinstance(member, Group):
                self._find_strings(member)

    def _heap(self) -> bytes:
        if len(self.places) >= 2**16:
            raise ValueError(f"HDF5: expected less than 65536 strings, received {len(self.places)}")
        objects = b"".join(
            struct.pack("<HHIQ", number, 0, 0, len(text.encode())) + _padded(text.encode())
            for text, number in self.places.items()
        )
        free = max(_LEAST_OF_HEAP - 16 - len(objects), 16)
        objects += struct.pack("<HHIQ", 0, 0, 0, free) + bytes(free - 16)
        return struct.pack("<4sB3xQ", b"GCOL", 1, 16 + len(objects)) + objects

    # --- objects ---

    def group(self, group, heap) -> tuple[int, int, int]:
        """Addresses of a group's header, of the tree of its links and of their names."""
        found = {}
        for name, member in group.members.items():
            if isinstance(member, Group):
                found[name] = self.group(member, heap)
            else:
                found[name] = self.array(member, name), None, None
        tree, names = self.links(found)
        messages = [(_SYMBOL_TABLE, struct.pack("<QQ", tree, names))]
        messages += [
            (_ATTRIBUTE, self.attribute(name, value, heap))
            for name, value in group.attributes.items()
        ]
        return self.header(messages), tree, names

    def array(self, array, name) -> int:
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        place = self.append(array.reshape(-1).view(np.uint8).data) if array.size else _NOWHERE
        return self.header(
            [
                (_DATASPACE, _dataspace(array.shape)),
                (_DATATYPE, _datatype(array.dtype, name)),
                (_FILL_VALUE, struct.pack("<BBBBI", 2, 2, 2, 1, 0)),
                (_LAYOUT, struct.pack("<BBQQ", 3, 1, place, array.nbytes)),
            ]
        )

    def attribute(self, name, value, heap) -> bytes:
        if isinstance(value, str):
            datatype, space = _STRING, _dataspace(())
            data = struct.pack("<IQI", len(value.encode()), heap, self.places[value])
        else:
            strings = np.array(value, "S") if len(value) else np.zeros(0, "S1")
            datatype = struct.pack("<BBBBI", 0x13, 1, 0, 0, strings.itemsize)  # padded with zeros
            space, data = _dataspace(strings.shape), strings.tobytes()
        label = name.encode() + b"\0"
        sizes = struct.pack("<BxHHH", 1, len(label), len(datatype), len(space))
        return sizes + _padded(label) + _padded(datatype) + _padded(space) + data

    def header(self, messages) -> int:
        parts = []
        for kind, data in messages:
            data = _padded(data)
            if len(data) > _MOST_OF_MESSAGE:
                raise ValueError(f"HDF5: expected attributes below 64 KB, received {len(data)}")
            constant = kind in (_DATASPACE, _DATATYPE, _FILL_VALUE)
            parts.append(struct.pack("<HHB3x", kind, len(data), constant) + data)
        content = b"".join(parts)
        return self.append(struct.pack("<BxHII4x", 1, len(messages), 1, len(content)) + content)

    # --- links ---

    def links(self, found) -> tuple[int, int]:
        """The tree over `found`, name -> addresses, whose leaves are in the order of the names."""
        heap, places = bytearray(8), {}
        for name in sorted(found, key=str.encode):
            places[name] = len(heap)
            heap += _padded(name.encode() + b"\0")
        ordered, nodes = list(places), []
        for start in range(0, len(ordered), _LEAF):
            names = ordered[start : start + _LEAF]
            entries = b"".join(_entry(places[name], *found[name]) for name in names)
            leaf = struct.pack("<4sBxH", b"SNOD", 1, len(names)) + entries.ljust(40 * _LEAF, b"\0")
            nodes.append((self.append(leaf), places[names[-1]]))
        level = 0
        while level == 0 or len(nodes) > 1:
            nodes = self.level(nodes, level)
            level += 1
        names = self.append(bytes(heap))
        return nodes[0][0], self.append(
            struct.pack("<4sB3xQQQ", b"HEAP", 0, len(heap), 1, names)  # 1: no free space
        )

    def level(self, children, level):
        """The nodes over (address, last name) of nodes below, as such pairs themselves."""
        size, start = 24 + 16 * _NODE + 8, self.size
        groups = [children[n : n + _NODE] for n in range(0, len(children), _NODE)] or [[]]
        made, before = [], 0
        for n, group in enumerate(groups):
            left = start + (n - 1) * size if n else _NOWHERE
            right = start + (n + 1) * size if n + 1 < len(groups) else _NOWHERE
            node = struct.pack("<4sBBHQQQ", b"TREE", 0, level, len(group), left, right, before)
            for address, last in group:
                node += struct.pack("<QQ", address, last)
                before = last
            made.append((self.append(node.ljust(size, b"\0")), before))
        return made


def _entry(place, address, tree, names) -> bytes:
    """A link of a group: to an array, or to another group with its tree and names."""
    if tree is None:
        return struct.pack("<QQI4x16x", place, address, 0)
    return struct.pack("<QQI4xQQ", place, address, 1, tree, names)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def _dataspace(shape) -> bytes:
    return struct.pack(f"<BBB5x{len(shape)}Q", 1, len(shape), 0, *shape)


def _datatype(dtype, name) -> bytes:
    size = dtype.itemsize
    if dtype.kind == "f" and size in _FLOATS:
        sign, (*bits, bias) = _FLOATS[size]
        return struct.pack("<BBBBIHH4BI", 0x11, 0x20, sign, 0, size, 0, 8 * size, *bits, bias)
    if dtype.kind in "iu":
        signed = 8 if dtype.kind == "i" else 0
        return struct.pack("<BBBBIHH", 0x10, signed, 0, 0, size, 0, 8 * size)
    raise ValueError(f"HDF5: expected numbers in {name!r}, received {dtype}")
