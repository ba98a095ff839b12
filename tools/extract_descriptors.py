#!/usr/bin/env python3
"""Extracts the IFRT proxy's wire format from the installed jaxlib wheel.

Every C++ library that uses protobuf carries the descriptors of its .proto files as plain bytes. This tool finds those
of jaxlib's shared library, takes the files named in ROOTS with all that they import, and writes them as one
FileDescriptorSet, ready for `protoc --descriptor_set_in`. So no .proto of another project is kept in our tree, and a
new version of jaxlib is one changed pin.

    extract_descriptors.py --out wire.desc --list wire.list

`--list` names the files that C++ has to be generated for: all but google/protobuf/*, which the installed protobuf
provides, with its own generated code.
"""

from __future__ import annotations

import argparse
import importlib.util
import mmap
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

ROOTS = (
    "jaxlib/py_host_callback.proto",
    "xla/pjrt/proto/compile_options.proto",
    "xla/python/ifrt/custom_call_program.proto",
    "xla/python/ifrt/ir/ifrt_ir_compile_options.proto",
    "xla/python/ifrt/ir/ifrt_ir_program.proto",
    "xla/python/ifrt/layout_serdes.proto",
    "xla/python/ifrt/sharding_serdes.proto",
    "xla/python/ifrt_proxy/common/array_util.proto",
    "xla/python/ifrt_proxy/common/grpc_ifrt_service.proto",
    "xla/python/ifrt_proxy/common/ifrt_service.proto",
    "xla/python/pjrt_ifrt/pjrt_layout_serdes.proto",
    "xla/python/pjrt_ifrt/xla_compiler.proto",
    "xla/python/pjrt_ifrt/xla_host_callback.proto",
    "xla/python/pjrt_ifrt/xla_sharding.proto",
    "xla/service/hlo.proto",
)

_PROVIDED = {
    module.DESCRIPTOR.name: module.DESCRIPTOR
    for module in (
        any_pb2,
        descriptor_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )
}

# Field 1 (name) of a FileDescriptorProto: tag, length, text. Lengths from 128 on would take two bytes; no path is that
# long.
_NAME = re.compile(rb"\x0a([\x07-\x7f])([\w./+-]{1,121}?\.proto)(?=[\x12\x1a\x22\x2a\x32\x3a\x42\x50\x58\x62])")

# The fields of FileDescriptorProto, by wire type: 2 is length-delimited, 0 a varint.
_FIELDS = {1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2, 8: 2, 9: 2, 10: 0, 11: 0, 12: 2, 14: 0, 15: 2}


class ExtractionError(Exception):
    """Says what is wrong with the library or the roots, and what to do about it."""


def _varint(data: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def _end_of_descriptor(data: bytes | mmap.mmap, start: int) -> int:
    """Where the message that starts at `start` ends.

    Nothing in the message says how long it is. But protoc writes fields in ascending order and the compiler ends the
    bytes with a zero, which is no field: walk for as long as the fields fit.
    """
    at = end = start
    last_field = 0
    while at < len(data):
        try:
            tag, at = _varint(data, at)
            field, wire_type = tag >> 3, tag & 7
            if _FIELDS.get(field) != wire_type or field < last_field or (field == last_field == 1):
                break
            value, at = _varint(data, at)
        except (ValueError, IndexError):
            break
        if wire_type == 2:
            at += value
        if at > len(data):
            break
        last_field, end = field, at
    return end


def find_descriptors(data: bytes | mmap.mmap) -> dict[str, FileDescriptorProto]:
    """All descriptors embedded in `data`, by file name."""
    found: dict[str, FileDescriptorProto] = {}
    for match in _NAME.finditer(data):
        if match.group(1)[0] != len(match.group(2)):
            continue
        start = match.start()
        descriptor = FileDescriptorProto()
        try:
            descriptor.ParseFromString(data[start : _end_of_descriptor(data, start)])
        except DecodeError:
            continue
        # A library may hold a name twice (a short list of dependencies looks like a small file): the fuller one is it.
        previous = found.get(descriptor.name)
        if previous is None or previous.ByteSize() < descriptor.ByteSize():
            found[descriptor.name] = descriptor
    return found


def lower_editions(descriptor: FileDescriptorProto) -> None:
    """Turns an "editions" file into proto3, which protoc 3.21 understands.

    Only files of open enums can be turned without changing what goes over the wire.
    """
    if descriptor.syntax != "editions":
        return
    closed = any(not enum.value or enum.value[0].number != 0 for enum in descriptor.enum_type)
    if descriptor.message_type or descriptor.extension or closed:
        raise ExtractionError(
            f"{descriptor.name} is written in protobuf editions and holds more than open enums, so it cannot be turned "
            "into proto3. Pin an older jaxlib in tools/versions.env, or teach lower_editions() in "
            "tools/extract_descriptors.py the features that the file uses."
        )
    descriptor.syntax = "proto3"
    descriptor.ClearField("edition")
    descriptor.options.ClearField("features")


def closure(found: Mapping[str, FileDescriptorProto], roots: Iterable[str], source: str) -> FileDescriptorSet:
    """The roots and everything that they import, each file after its imports.

    Raises ExtractionError naming every file that is missing and what needs it.
    """
    result = FileDescriptorSet()
    visited: set[str] = set()
    missing: dict[str, str] = {}

    def visit(name: str, needed_by: str) -> None:
        if name in visited:
            return
        visited.add(name)
        descriptor = FileDescriptorProto()
        if name in _PROVIDED:
            _PROVIDED[name].CopyToProto(descriptor)
        elif name in found:
            descriptor.CopyFrom(found[name])
            lower_editions(descriptor)
        else:
            missing[name] = needed_by
            return
        for dependency in descriptor.dependency:
            visit(dependency, name)
        result.file.append(descriptor)

    for root in roots:
        visit(root, "ROOTS in tools/extract_descriptors.py")
    if missing:
        lines = "\n".join(f"  {name}  (needed by {needed_by})" for name, needed_by in sorted(missing.items()))
        raise ExtractionError(
            f"{len(missing)} descriptor(s) are not in {source}:\n{lines}\n"
            "The pinned jaxlib in tools/versions.env does not carry them. Either go back to the version pinned before, "
            "or find out what the file is called in this version and change ROOTS in tools/extract_descriptors.py."
        )

    # A pool refuses a set in which any type is unresolved: what was cut short or mixed up is found here, not by protoc.
    pool = descriptor_pool.DescriptorPool()
    for descriptor in result.file:
        try:
            pool.Add(descriptor)
            pool.FindFileByName(descriptor.name)
        except (TypeError, KeyError) as error:
            raise ExtractionError(
                f"The descriptor of {descriptor.name} in {source} is damaged: {error}. "
                "Install jaxlib again: rm -rf .venv && tools/setup.sh"
            ) from error
    return result


def jaxlib_library() -> Path:
    """The shared library of the installed jaxlib that carries the descriptors."""
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or spec.origin is None:
        raise ExtractionError(f"jaxlib is not installed for {sys.executable}. Run tools/setup.sh.")
    library = Path(spec.origin).parent / "libjax_common.so"
    if not library.exists():
        raise ExtractionError(
            f"{library} does not exist. This jaxlib keeps its code elsewhere; install the version that "
            "tools/versions.env pins (tools/setup.sh), or pass --library."
        )
    return library


def extract(library: Path, roots: Iterable[str] = ROOTS) -> FileDescriptorSet:
    """The closure of `roots` in `library`."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = find_descriptors(data)
    return closure(found, roots, str(library))


def _write_if_changed(path: Path, content: bytes) -> None:
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the FileDescriptorSet to write")
    parser.add_argument("--list", type=Path, help="the list of files to generate code for, one a line")
    parser.add_argument("--library", type=Path, help="the shared library to read (default: the installed jaxlib's)")
    parser.add_argument("--root", action="append", help="a file to extract instead of ROOTS; may be repeated")
    options = parser.parse_args(arguments)
    try:
        descriptors = extract(options.library or jaxlib_library(), options.root or ROOTS)
    except (ExtractionError, OSError) as error:
        print(f"extract_descriptors: {error}", file=sys.stderr)
        return 1
    _write_if_changed(options.out, descriptors.SerializeToString(deterministic=True))
    if options.list:
        names = [file.name for file in descriptors.file if file.name not in _PROVIDED]
        _write_if_changed(options.list, "".join(f"{name}\n" for name in names).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
