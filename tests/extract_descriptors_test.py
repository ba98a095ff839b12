"""The wire format is found, whole, in the jaxlib wheel that is pinned; and what is missing is named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

import extract_descriptors
from extract_descriptors import ROOTS, ExtractionError


@pytest.fixture(scope="module")
def wire() -> FileDescriptorSet:
    return extract_descriptors.extract(extract_descriptors.jaxlib_library())


def file_with_message(name: str, *imports: str) -> FileDescriptorProto:
    descriptor = FileDescriptorProto(name=name, package="a.b", syntax="proto3", dependency=imports)
    field = descriptor.message_type.add(name="M").field.add(name="f", number=1)
    field.type = FieldDescriptorProto.TYPE_INT32
    field.label = FieldDescriptorProto.LABEL_OPTIONAL
    return descriptor


def embed(*descriptors: FileDescriptorProto) -> bytes:
    """Bytes as a linker would lay them out: each descriptor ends with the zero of its string literal."""
    return b"\x7fELF\x01\xff" + b"".join(d.SerializeToString() + b"\0" for d in descriptors) + b"\xfe\x07tail"


def test_closure_of_the_pinned_wheel_is_complete(wire: FileDescriptorSet) -> None:
    present: set[str] = set()
    for file in wire.file:
        assert set(file.dependency) <= present, f"{file.name} stands before something that it imports"
        present.add(file.name)
    assert set(ROOTS) <= present


def test_pinned_wheel_has_the_calls_and_messages_that_the_door_needs(wire: FileDescriptorSet) -> None:
    pool = descriptor_pool.DescriptorPool()
    for file in wire.file:
        pool.Add(file)
    service = pool.FindServiceByName("xla.ifrt.proxy.GrpcIfrtService")
    assert {method.name for method in service.methods} >= {"IfrtSession", "HostBufferStore", "HostBufferLookup"}
    request = pool.FindMessageTypeByName("xla.ifrt.proxy.IfrtRequest")
    assert "loaded_executable_execute_request" in request.fields_by_name
    assert pool.FindMessageTypeByName("xla.HloModuleProto").fields_by_name["computations"].number == 3


def test_no_editions_file_reaches_protoc(wire: FileDescriptorSet) -> None:
    assert {file.syntax for file in wire.file} <= {"", "proto2", "proto3"}


def test_missing_root_is_named_with_who_needs_it_and_the_cure(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "wire.desc"
    assert extract_descriptors.main(["--out", str(out), "--root", "xla/no_such_file.proto"]) == 1
    message = capsys.readouterr().err
    assert "xla/no_such_file.proto  (needed by ROOTS in tools/extract_descriptors.py)" in message
    assert "libjax_common.so" in message
    assert "tools/versions.env" in message
    assert not out.exists()


def test_missing_import_is_named_with_the_file_that_imports_it() -> None:
    found = extract_descriptors.find_descriptors(embed(file_with_message("a/top.proto", "a/gone.proto")))
    with pytest.raises(ExtractionError, match=r"a/gone\.proto  \(needed by a/top\.proto\)"):
        extract_descriptors.closure(found, ["a/top.proto"], "here.so")


def test_neighbours_without_a_gap_in_meaning_are_told_apart() -> None:
    first = file_with_message("a/first.proto")
    second = file_with_message("a/second.proto", "a/first.proto")
    found = extract_descriptors.find_descriptors(embed(first, second))
    assert found == {"a/first.proto": first, "a/second.proto": second}


def test_truncated_descriptor_is_damaged_rather_than_silently_short() -> None:
    user = file_with_message("a/user.proto", "a/used.proto")
    user.message_type[0].field[0].type = FieldDescriptorProto.TYPE_MESSAGE
    user.message_type[0].field[0].type_name = ".a.b.Used"
    found = {"a/user.proto": user, "a/used.proto": FileDescriptorProto(name="a/used.proto")}
    with pytest.raises(ExtractionError, match=r"a/user\.proto in here\.so is damaged"):
        extract_descriptors.closure(found, ["a/user.proto"], "here.so")


def test_editions_file_of_enums_becomes_proto3() -> None:
    descriptor = FileDescriptorProto(name="a/enums.proto", syntax="editions", edition=1000)
    descriptor.enum_type.add(name="E").value.add(name="ZERO", number=0)
    extract_descriptors.lower_editions(descriptor)
    assert descriptor.syntax == "proto3"
    assert not descriptor.HasField("edition")


def test_editions_file_with_a_message_is_refused_by_name() -> None:
    descriptor = file_with_message("a/new.proto")
    descriptor.syntax = "editions"
    with pytest.raises(ExtractionError, match=r"a/new\.proto is written in protobuf editions"):
        extract_descriptors.lower_editions(descriptor)


def test_set_and_list_feed_protoc(tmp_path: Path) -> None:
    out, names = tmp_path / "wire.desc", tmp_path / "wire.list"
    assert extract_descriptors.main(["--out", str(out), "--list", str(names)]) == 0
    files = names.read_text().split()
    assert not [name for name in files if name.startswith("google/protobuf/")]
    subprocess.run(["protoc", f"--descriptor_set_in={out}", f"--cpp_out={tmp_path}", *files], check=True)
    assert (tmp_path / "xla/service/hlo.pb.h").exists()


def test_unchanged_output_keeps_its_time_so_that_nothing_is_rebuilt(tmp_path: Path) -> None:
    out = tmp_path / "wire.desc"
    extract_descriptors.main(["--out", str(out)])
    before = out.stat().st_mtime_ns
    extract_descriptors.main(["--out", str(out)])
    assert out.stat().st_mtime_ns == before
