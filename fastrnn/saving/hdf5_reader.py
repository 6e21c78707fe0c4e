"""A reader of the part of HDF5 that Keras's files use, for files that nobody vouches for.

The HDF5 library runs into endless loops and invalid memory on damaged files; here every access is
checked against the end of the file, and the bytes looked at are counted, so that time and memory
grow with the size of the file and no faster. Soft and external links, external, virtual, chunked
and compressed data are refused. Format: HDF5 File Format Specification, version 3.0
(https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html).
"""

import math
import struct

import numpy as np

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = 2**64 - 1  # the address of what does not exist
_HARD, _SOFT, _EXTERNAL = 0, 1, 64
_PLAIN = "expected plain data as Keras writes (h5repack -f NONE -l CONTI OLD NEW converts)"

_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _EXTERNAL_FILES, _LAYOUT = 0x1, 0x2, 0x3, 0x6, 0x7, 0x8
_FILTERS, _ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE, _ATTRIBUTE_INFO = 0xB, 0xC, 0x10, 0x11, 0x15


class File:
    """The bytes of an HDF5 file; `root` is its first group. Raises ValueError if they are not."""

    def __init__(self, data: bytes):
        self.data = data
        self.budget = 4 * len(data) + 65536  # bytes that may be looked at, repetitions included
        self.tables = {}
        self.heaps = {}
        if data[:8] != SIGNATURE:
            raise ValueError("not an HDF5 file: it does not start as one")
        version = self.number(8, 1)
        if version in (0, 1):
            sizes, base, root = 13, 24 + 4 * version, 64 + 4 * version
        elif version in (2, 3):
            sizes, base, root = 9, 12, 36
        else:
            raise ValueError(f"HDF5: expected a superblock of version 0 to 3, received {version}")
        if self.read(sizes, 2) != b"\x08\x08" or self.number(base, 8) != 0:
            raise ValueError("HDF5: expected addresses of 8 bytes that start at the file's start")
        if self.number(base + 16, 8) > len(data):
            raise ValueError(f"HDF5: truncated file: {len(data)} bytes are left of it")
        self.root = Group(self, self.number(root, 8), "")

    def read(self, start: int, size: int) -> bytes:
        self.check(start, size)
        self.budget -= size + 8
        if self.budget < 0:
            raise ValueError("HDF5: damaged file, whose parts refer to each other too often")
        return self.data[start : start + size]

    def check(self, start: int, size: int) -> None:
        if start + size > len(self.data):
            raise ValueError(
                f"HDF5: damaged or truncated file: {size} bytes at {start} of {len(self.data)}"
            )

    def number(self, start: int, size: int) -> int:
        return int.from_bytes(self.read(start, size), "little")

    # --- object headers ---

    def messages(self, address: int) -> list[tuple[int, int, bytes]]:
        """(type, flags, content) of all messages of the object at `address`."""
        if self.read(address, 4) == b"OHDR":
            version, flags = self.read(address + 4, 2)
            start = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            block = start + width, self.number(start, width)
            tracked = bool(flags & 4)
        else:
            version, size = self.number(address, 1), self.number(address + 8, 4)
            block, tracked = (address + 16, size), False
        if version not in (1, 2):
            raise ValueError(f"HDF5: expected an object header at {address}")
        found, blocks, seen = [], [block], set()
        while blocks:
            start, size = blocks.pop()
            if start in seen:
                raise ValueError("HDF5: damaged file, an object header continues in itself")
            seen.add(start)
            block = self.read(start, size)
            header, place = 8 if version == 1 else 6 if tracked else 4, 0
            while place + header <= len(block):
                if version == 1:
                    kind, length, flags = struct.unpack_from("<HHB", block, place)
                else:
                    kind, length, flags = struct.unpack_from("<BHB", block, place)
                content = block[place + header : place + header + length]
                if len(content) != length:
                    raise ValueError("HDF5: damaged file, a message is longer than its header")
                place += header + length
                if kind == _CONTINUATION:
                    start, size = _unpack("<QQ", content)
                    if version == 2:
                        if self.read(start, 4) != b"OCHK" or size < 8:
                            raise ValueError("HDF5: expected the continuation of a header")
                        start, size = start + 4, size - 8
                    blocks.append((start, size))
                else:
                    found.append((kind, flags, content))
        return found

    # --- groups ---

    def symbol_table(self, tree: int, heap: int) -> dict[str, tuple[int, int]]:
        """name -> (kind of link, address) of a group in the older format."""
        if (tree, heap) in self.tables:
            return self.tables[tree, heap]
        if self.read(heap, 4) != b"HEAP":
            raise ValueError("HDF5: expected the names of a group")
        size, names = self.number(heap + 8, 8), self.number(heap + 24, 8)
        self.check(names, size)
        links, nodes, seen = {}, [tree], set()
        while nodes:
            node = nodes.pop()
            if node in seen:
                raise ValueError("HDF5: damaged file, the tree of a group contains itself")
            seen.add(node)
            signature, count = self.read(node, 4), self.number(node + 6, 2)
            if signature == b"TREE" and self.number(node + 4, 1) == 0:
                children = struct.unpack(f"<{2 * count}Q", self.read(node + 32, 16 * count))
                nodes.extend(children[::2])
            elif signature == b"SNOD":
                entries = self.read(node + 8, 40 * count)
                for i in range(count):
                    place, address, cached = struct.unpack_from("<QQI", entries, 40 * i)
                    name = self._name(names, size, place)
                    links[name] = (_SOFT if cached == 2 else _HARD, address)
            else:
                raise ValueError("HDF5: expected the entries of a group")
        self.tables[tree, heap] = links
        return links

    def _name(self, start: int, size: int, place: int) -> str:
        end = self.data.find(b"\0", start + place, start + size)
        if place >= size or end < 0:
            raise ValueError("HDF5: damaged file, the name of a link has no end")
        return self.read(start + place, end - start - place).decode()

    # --- values ---

    def heap_object(self, address: int, index: int) -> tuple[int, int]:
        """Start and size of an object of a global heap."""
        if address not in self.heaps:
            if self.read(address, 4) != b"GCOL":
                raise ValueError("HDF5: expected a heap of strings")
            place, end = address + 16, address + self.number(address + 8, 8)
            self.check(place, end - place)
            objects = self.heaps[address] = {}
            while place + 16 <= end:
                number, _, _, size = struct.unpack("<HHIQ", self.read(place, 16))
                if number == 0:  # the free space at the end
                    break
                objects[number] = place + 16, size
                place += 16 + (size + 7) // 8 * 8
        if index not in self.heaps[address]:
            raise ValueError("HDF5: damaged file, a string is not in its heap")
        return self.heaps[address][index]

    def strings(self, raw: bytes) -> list[str]:
        """Strings of variable length from their places in the heap."""
        found = []
        for length, address, index in struct.iter_unpack("<IQI", raw):
            if length == 0:
                found.append("")
                continue
            start, size = self.heap_object(address, index)
            if length > size:
                raise ValueError("HDF5: damaged file, a string is longer than its place")
            found.append(self.read(start, length).rstrip(b"\0").decode())
        return found


class Group:
    """A group: `names`, `attrs`, and what it holds, by path."""

    def __init__(self, file: File, address: int, path: str):
        self.file, self.path = file, path
        self._messages = file.messages(address)
        self._links = None

    @property
    def links(self):
        if self._links is None:
            self._links = {}
            for kind, _, content in self._messages:
                if kind == _SYMBOL_TABLE:
                    self._links.update(self.file.symbol_table(*_unpack("<QQ", content)))
                elif kind == _LINK:
                    name, link = _link(content)
                    self._links[name] = link
                elif kind == _LINK_INFO:
                    _refuse_dense(content, 8, f"group {self.path!r}")
        return self._links

    def __contains__(self, name):
        return name in self.links

    def _address(self, name: str) -> int:
        if name not in self.links:
            raise ValueError(f"HDF5: group {self.path!r} has no {name!r}")
        kind, address = self.links[name]
        if kind != _HARD:
            kind = {_SOFT: "soft", _EXTERNAL: "external"}.get(kind, "user-defined")
            raise ValueError(f"HDF5: {self.path}/{name} is a {kind} link, which is not followed")
        return address

    def group(self, path: str) -> "Group":
        """The group at `path` below this one. Raises ValueError if there is none."""
        found = self
        for name in path.split("/"):
            found = Group(found.file, found._address(name), f"{found.path}/{name}")
            if not any(
                kind in (_SYMBOL_TABLE, _LINK, _LINK_INFO) for kind, _, _ in found._messages
            ):
                raise ValueError(f"HDF5: expected a group at {found.path!r}, received data")
        return found

    def find(self, path: str) -> "Group | None":
        """The group at `path` below this one, or None if there is none of that name."""
        found = self
        for name in path.split("/"):
            if name not in found:
                return None
            found = found.group(name)
        return found

    def array(self, path: str) -> np.ndarray:
        """The numbers at `path`, a read-only view of the file. Raises ValueError for others."""
        *groups, name = path.split("/")
        group = self.group("/".join(groups)) if groups else self
        path = f"{group.path}/{name}"
        shape = dtype = place = None
        for kind, flags, content in self.file.messages(group._address(name)):
            if kind in (_DATASPACE, _DATATYPE, _LAYOUT) and flags & 2:
                raise ValueError(f"HDF5: {path} shares its type with others: not supported")
            if kind == _DATASPACE:
                shape = _shape(content)
            elif kind == _DATATYPE:
                dtype = _number_type(content, path)
            elif kind == _LAYOUT:
                place = self._place(content, group._address(name), path)
            elif kind == _EXTERNAL_FILES:
                raise ValueError(f"HDF5: {path} lies in another file, which is not read")
            elif kind == _FILTERS:
                raise ValueError(f"HDF5: {path} is compressed; {_PLAIN}")
        if shape is None or dtype is None or place is None:
            raise ValueError(f"HDF5: expected numbers at {path!r}")
        declared, (data, start, stored) = math.prod(shape) * dtype.itemsize, place
        if declared > stored or start + declared > len(data):
            raise ValueError(
                f"HDF5: {path} declares shape {shape}, {declared} bytes, but stores {stored}"
            )
        return np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape)

    def _place(self, content: bytes, address: int, path: str):
        """(bytes, start, size) of a dataset."""
        version, kind = _unpack("<BB", content)
        if version not in (3, 4) or kind not in (0, 1):
            kind = {2: "in chunks", 3: "virtually"}.get(kind, "in a form of HDF5 before 1.6")
            raise ValueError(f"HDF5: {path} is stored {kind}; {_PLAIN}")
        if kind == 0:
            (size,) = _unpack("<H", content[2:])
            return content, 4, min(size, len(content) - 4)
        start, size = _unpack("<QQ", content[2:])
        if start == _NOWHERE:
            return b"", 0, 0
        self.file.check(start, size)
        return self.file.data, start, size

    def strings(self, name: str) -> list[str]:
        """An attribute that holds strings: all of them, in order. Raises ValueError for others."""
        content, version = None, 0
        for kind, _, candidate in self._messages:
            if kind == _ATTRIBUTE_INFO:
                _refuse_dense(candidate, 2, f"the attributes of {self.path!r}")
            if kind == _ATTRIBUTE:
                version, flags, *sizes = _unpack("<BBHHH", candidate)
                start = 8 if version < 3 else 9
                if candidate[start : start + sizes[0]].rstrip(b"\0") == name.encode():
                    content = candidate
                    break
        if content is None:
            raise ValueError(f"HDF5: {self.path or 'the file'!r} has no attribute {name!r}")
        if version not in (1, 2, 3) or (version > 1 and flags):
            raise ValueError(f"HDF5: attribute {name!r} has a form that is not supported")
        places = [start]
        for size in sizes:
            places.append(places[-1] + (size if version > 1 else (size + 7) // 8 * 8))
        datatype = content[places[1] : places[1] + sizes[1]]
        count = math.prod(_shape(content[places[2] : places[2] + sizes[2]]))
        raw = content[places[3] :]
        if count == 0:
            return []
        kind, bits, size = _datatype(datatype)
        if size * count > len(raw) or size == 0:
            raise ValueError(f"HDF5: damaged file, attribute {name!r} is cut off")
        raw = raw[: size * count]
        if kind == 3:
            parts = [raw[i : i + size] for i in range(0, len(raw), size)]
            return [part.split(b"\0")[0].rstrip(b" \0").decode() for part in parts]
        if kind == 9 and bits & 15 == 1 and size == 16:
            return self.file.strings(raw)
        raise ValueError(f"HDF5: expected strings in attribute {name!r}")

    def has_attribute(self, name: str) -> bool:
        for kind, _, content in self._messages:
            if kind == _ATTRIBUTE:
                version, _, size = _unpack("<BBH", content)
                start = 8 if version < 3 else 9
                if content[start : start + size].rstrip(b"\0") == name.encode():
                    return True
        return False


def _unpack(layout: str, content: bytes):
    if len(content) < struct.calcsize(layout):
        raise ValueError("HDF5: damaged file, a message is too short")
    return struct.unpack_from(layout, content)


def _link(content: bytes):
    """(name, (kind, address)) of a link message."""
    version, flags = _unpack("<BB", content)
    place, kind = 2, _HARD
    if flags & 8:
        (kind,) = _unpack("<B", content[2:])
        place = 3
    place += (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
    width = 1 << (flags & 3)
    length = int.from_bytes(content[place : place + width], "little")
    name = content[place + width : place + width + length].decode()
    rest = content[place + width + length :]
    return name, (kind, _unpack("<Q", rest)[0] if kind == _HARD else _NOWHERE)


def _refuse_dense(content: bytes, index_size: int, what: str) -> None:
    _, flags = _unpack("<BB", content)
    if _unpack("<Q", content[2 + (index_size if flags & 1 else 0) :])[0] != _NOWHERE:
        raise ValueError(
            f"HDF5: {what} is stored in a newer form; expected the form that Keras and h5py write "
            "by default (h5repack --low=0 --high=0 converts)"
        )


def _shape(content: bytes) -> tuple[int, ...]:
    version, rank, _, kind = _unpack("<BBBB", content)
    if version not in (1, 2) or rank > 32:
        raise ValueError("HDF5: damaged file, a shape is not one")
    if version == 2 and kind == 2:
        return (0,)
    return _unpack(f"<{rank}Q", content[8 if version == 1 else 4 :])


def _datatype(content: bytes) -> tuple[int, int, int]:
    """(class, bits, size) of a datatype message."""
    kind, low, middle, high, size = _unpack("<BBBBI", content)
    return kind & 15, low | middle << 8 | high << 16, size


def _number_type(content: bytes, path: str) -> np.dtype:
    kind, bits, size = _datatype(content)
    order = "<>"[bits & 1]
    if kind == 0 and size in (1, 2, 4, 8):
        return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}")
    if kind == 1 and size in (2, 4, 8):
        fields = _unpack("<HHBBBBI", content[8:])
        info = np.finfo(f"f{size}")
        if fields[:6] == (0, 8 * size, info.nmant, info.nexp, 0, info.nmant) and not bits & 64:
            return np.dtype(f"{order}f{size}")
    raise ValueError(f"HDF5: expected numbers (float16, 32 or 64, or integers) at {path!r}")
