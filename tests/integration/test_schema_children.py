"""The child processes that compile: each is held to its limits, and leaves nothing behind however it ends."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import grpc.aio
import pytest
import uvloop

from certes_broker.domain.errors import CertesError, Exhausted, Invalid, Reason, Unavailable
from certes_broker.schemas.compiling.children import Children
from certes_broker.schemas.compiling.compiler import SchemaCompiler

SOUND = {"orders.proto": 'syntax = "proto3"; message Order { string id = 1; }'}
ENDLESS = {"orders.proto": 'syntax = "proto3"; message M {' + "}" * 1_000_000}
"""Makes the compiler say a million times that something is wrong, which takes it longer than it may."""


@pytest.fixture
def place(tmp_path) -> Path:
    """The folder in which children get theirs."""
    place = tmp_path / "place"
    place.mkdir()
    return place


def children_of_this_process() -> set[int]:
    """The ids of the processes that this one has started and that live, zombies included."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # it has ended meanwhile, and others have its children
            found |= {int(pid) for pid in (thread / "children").read_text().split()}
    return found


async def until_there_is_a_child(before: set[int]) -> set[int]:
    while not (new := children_of_this_process() - before):  # noqa: ASYNC110 (nobody tells that a child was born)
        await asyncio.sleep(0)
    return new


async def test_a_compilation_that_takes_too_long_is_ended(place):
    before = children_of_this_process()
    compiler = SchemaCompiler(Children(place=place, time_limit=0.3))
    with pytest.raises(Invalid, match=r"more time than a registration may use, which is 0\.3 seconds") as refusal:
        await compiler.compile_sources(ENDLESS)
    assert refusal.value.reason is Reason.SCHEMA_TOO_LARGE
    assert refusal.value.metadata == {"limit": "time", "maximum": "0.3 seconds"}
    assert children_of_this_process() <= before
    assert not list(place.iterdir())


async def test_what_a_killed_broker_has_left_goes_and_what_another_may_use_stays(place):
    left, used, foreign = place / "certes-schemas-left", place / "certes-schemas-used", place / "something-else"
    for folder in (left, used, foreign):
        (folder / "files").mkdir(parents=True)
    for folder in (left, foreign):
        os.utime(folder, (0, 0))
    await SchemaCompiler(Children(place=place)).compile_sources(SOUND)
    assert sorted(place.iterdir()) == [used, foreign]


async def test_a_caller_that_is_cancelled_takes_its_child_away(place):
    before = children_of_this_process()
    compiler = SchemaCompiler(Children(place=place))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(compiler.compile_sources(ENDLESS))
        (child,) = await until_there_is_a_child(before)
        task.cancel()
    assert task.cancelled()
    assert child not in children_of_this_process()
    assert not list(place.iterdir())


async def test_a_caller_that_is_cancelled_at_any_moment_leaves_nothing(place):
    before = children_of_this_process()
    children = Children(place=place)
    compiler = SchemaCompiler(children)
    for moments in range(60):
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(compiler.compile_sources(SOUND))
            for _ in range(moments):
                await asyncio.sleep(0)
            task.cancel()
        assert not list(place.iterdir())
    assert children_of_this_process() <= before
    assert children.present == 0


async def test_no_more_than_so_many_wait(place):
    before = children_of_this_process()
    children = Children(place=place, at_once=1, waiting=1)
    compiler = SchemaCompiler(children)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(compiler.compile_sources(ENDLESS))
        waiting = tasks.create_task(compiler.compile_sources(SOUND))
        await until_there_is_a_child(before)
        with pytest.raises(Exhausted) as refusal:
            await compiler.compile_sources(SOUND)
        assert refusal.value.reason is Reason.BUFFER_FULL
        assert refusal.value.retry_after is not None
        assert len(children_of_this_process() - before) == 1, "the second waits for the first"
        running.cancel()
        assert (await waiting).file[0].name == "orders.proto"
    assert children.present == 0


async def test_many_are_served_a_few_at_a_time(place):
    before = children_of_this_process()
    compiler = SchemaCompiler(Children(place=place, at_once=2, waiting=10))
    most = 0
    async with asyncio.TaskGroup() as tasks:
        compilations = [tasks.create_task(compiler.compile_sources(SOUND)) for _ in range(8)]
        while not all(compilation.done() for compilation in compilations):
            most = max(most, len(children_of_this_process() - before))
            await asyncio.sleep(0)
    assert 1 <= most <= 2


@pytest.mark.parametrize("python", ["/nonexistent/python", "/bin/false", "/bin/true"])
async def test_a_compiler_that_is_not_there_is_said_to_be_unavailable(python, place):
    compiler = SchemaCompiler(Children(place=place, python=python))
    with pytest.raises(Unavailable, match="the schema compiler cannot work") as refusal:
        await compiler.compile_sources(SOUND)
    assert refusal.value.reason is Reason.WORKER_UNAVAILABLE
    assert str(place) not in str(refusal.value)
    assert not list(place.iterdir())


async def test_a_place_that_is_not_there_is_said_to_be_unavailable(place):
    compiler = SchemaCompiler(Children(place=place / "gone"))
    with pytest.raises(Unavailable) as refusal:
        await compiler.compile_sources(SOUND)
    assert str(place) not in str(refusal.value)


SHOWS_ITSELF = """\
#!{python} -IS
import json, os, resource, sys
names = ["AS", "CPU", "FSIZE", "NOFILE", "CORE"]
open({report!r}, "w").write(json.dumps({{
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "mode": oct(os.stat("..").st_mode & 0o777),
    "open": [os.readlink(f"/proc/self/fd/{{fd}}") for fd in os.listdir("/proc/self/fd") if fd.isdigit() and int(fd) < 3],
    "inherited": [fd for fd in os.listdir("/proc/self/fd") if fd == {secret!r}],
    "leads": os.getpid() == os.getpgrp() == os.getsid(0),
    "arguments": sys.argv[1:4],
}}))
"""


async def test_a_child_inherits_nothing(place, tmp_path):
    """The child is a program that says what it finds, instead of the interpreter."""
    report, program = tmp_path / "report.json", tmp_path / "python"
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        text = SHOWS_ITSELF.format(python=sys.executable, report=str(report), secret=str(secret.fileno()))
        program.write_text(text)
        program.chmod(0o700)
        with pytest.raises(CertesError):
            await SchemaCompiler(Children(place=place, python=str(program))).compile_sources(SOUND)
    found = json.loads(report.read_text())
    assert set(found["environment"]) <= {"LC_CTYPE"}, "which the interpreter itself sets"
    assert Path(found["folder"]).is_relative_to(place)
    assert found["mode"] == "0o700"
    assert found["open"][0] == found["open"][1] == "/dev/null"
    assert found["inherited"] == []
    assert found["leads"]
    assert found["arguments"][:2] == ["-I", "-S"]


def test_it_works_in_the_loop_that_the_broker_runs_in_and_beside_grpc(place):
    async def beside_grpc() -> None:
        server = grpc.aio.server()
        server.add_insecure_port("127.0.0.1:0")
        await server.start()
        compiler = SchemaCompiler(Children(place=place))
        for _ in range(12):
            assert (await compiler.compile_sources(SOUND)).file
        before = children_of_this_process()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(compiler.compile_sources(ENDLESS))
            await until_there_is_a_child(before)
            task.cancel()
        assert not children_of_this_process() - before
        await server.stop(None)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(beside_grpc())
    assert not list(place.iterdir())
