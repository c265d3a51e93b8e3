"""`certes schemas pull`: writes the sources of schemas, so that stubs can be generated from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from certes_broker.cli.connect import SCHEMA_SERVICE, Broker
from certes_broker.cli.failures import BrokerUnreachable
from certes_broker.cli.options import broker_option, json_option
from certes_broker.cli.output import print_json, print_table
from certes_broker.cli.schemas_folder import Obstructed, UnsafePath, plan
from certes_broker.domain.errors import CertesError
from certes_broker.domain.uris import parse_event_type

if TYPE_CHECKING:
    from certes.v1.schema_pb2 import SchemaVersion

GATEWAY: Final = "events://"


@click.command()
@click.argument("wanted", metavar="PATTERN|events://HOST[:PORT][/NAMESPACE]")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Where the files are written, by the paths under which they import each other.",
)
@click.option("--descriptor-sets", is_flag=True, help="Write descriptor sets also where the sources are known.")
@click.option("--force", is_flag=True, help="Overwrite files that have other content.")
@json_option
@broker_option
def pull(*, wanted: str, out: Path, descriptor_sets: bool, force: bool, as_json: bool, broker: Broker) -> None:
    """Write the schemas whose event types match PATTERN into a folder, with all that they import.

    What is written compiles as it is, to the stubs of any language. Where sources are not known, because the schemas were
    registered as a descriptor set or because another gateway serves them, a FileDescriptorSet is written:
    DOMAIN/NAMESPACE/VERSION.binpb, which buf and protoc take instead of sources.
    """
    doing = f"Pulling {wanted}"
    versions = _foreign(broker, wanted, doing) if wanted.startswith(GATEWAY) else _own(broker, wanted, doing)
    try:
        pulled = [_pulled(version, descriptor_sets=descriptor_sets) for version in versions]
        plans = plan(out, _together(pulled))
    except Obstructed as problem:
        raise click.UsageError(f"{problem}.") from None
    except UnsafePath as problem:
        raise BrokerUnreachable(
            doing,
            f"the broker names a file that is not to be written: {problem}",
            "Nothing was written. Whoever registered these schemas should be asked.",
        ) from None
    if plans.other and not force:
        listed = "\n".join(f"  {out / path}" for path in sorted(plans.other))
        raise click.UsageError(f"These files have other content already; --force overwrites them:\n{listed}")
    written = plans.write(replace=True)
    if as_json:
        print_json([{"version": one.name, "revision": one.revision, "files": sorted(one.files)} for one in pulled])
        return
    print_table(
        ("VERSION", "REVISION", "FILES"),
        [(one.name, str(one.revision), one.told(out)) for one in pulled],
        empty=f"Nothing matches {wanted}.",
    )
    if pulled:
        others = "; the others were there already" if plans.same else ""
        click.echo(f"Wrote {len(written)} of {len(written) + len(plans.same)} files below {out}{others}.", err=True)


@dataclass(frozen=True, slots=True)
class _Pulled:
    """What a version comes to: files by path. A single descriptor set where its sources are not known."""

    name: str
    revision: int
    files: Mapping[str, bytes]
    is_descriptor_set: bool

    def told(self, out: Path) -> str:
        if self.is_descriptor_set:
            return f"{out / next(iter(self.files))} (descriptor set)"
        return f"{len(self.files)} .proto"


def _own(broker: Broker, pattern: str, doing: str) -> Iterator[SchemaVersion]:
    """Yields the versions that have event types which match, each once, with their sources."""
    from certes.v1 import schema_service_pb2 as pb  # noqa: PLC0415  as in the whole file: other commands need none of it

    types: dict[str, str] = {}
    for schema in broker.pages(SCHEMA_SERVICE, "ListSchemas", "schemas", {"pattern": pattern}, doing=doing):
        types.setdefault(schema["type"].rpartition("/")[0], schema["type"])
    for event_type in types.values():
        request = pb.GetSchemaRequest(type=event_type)
        yield broker.call_message(SCHEMA_SERVICE, "GetSchema", request, pb.GetSchemaResponse, doing=doing).version


def _foreign(broker: Broker, uri: str, doing: str) -> Iterator[SchemaVersion]:
    """Yields the versions that another gateway serves, without sources."""
    from certes.v1 import schema_service_pb2 as pb  # noqa: PLC0415

    request = pb.DiscoverSchemasRequest(uri=uri, view=pb.SCHEMA_VIEW_FULL)
    while True:
        answer = broker.call_message(
            SCHEMA_SERVICE, "DiscoverSchemas", request, pb.DiscoverSchemasResponse, doing=doing
        )
        yield from answer.versions
        request.page_token = answer.next_page_token
        if not request.page_token:
            return


def _pulled(version: SchemaVersion, *, descriptor_sets: bool) -> _Pulled:
    name = f"{version.domain}/{version.namespace}/{version.version}"
    found = None if descriptor_sets else _sources(version)
    if found is None:
        wire = version.descriptor_set.SerializeToString(deterministic=True)
        return _Pulled(name, version.revision, {_place(name): wire}, is_descriptor_set=True)
    return _Pulled(name, version.revision, found, is_descriptor_set=False)


def _sources(version: SchemaVersion) -> dict[str, bytes] | None:
    """Returns the sources of a version, complete with what they import; None if they are not all known."""
    known = {source.path: source.content.encode() for source in version.sources}
    if not known:
        return None
    for file in version.descriptor_set.file:
        # Every compiler brings google/protobuf itself.
        if file.name in known or file.name.startswith("google/protobuf/"):
            continue
        shipped = _shipped(file.name)
        if shipped is None:
            return None
        known[file.name] = shipped
    return known


def _shipped(path: str) -> bytes | None:
    """Returns a file that every broker has, as it is installed with this command."""
    folder, _, rest = path.partition("/")
    if folder != "certes" or ".." in path.split("/"):
        return None
    file = files("certes").joinpath(rest)
    return file.read_bytes() if file.is_file() else None


def _place(version: str) -> str:
    """Returns the path of a version's descriptor set. What is no version's name would be no safe path either."""
    try:
        parse_event_type(f"{version}/x")
    except CertesError as error:
        raise UnsafePath(f"{version}: {error.message}") from None
    return f"{version}.binpb"


def _together(pulled: Iterable[_Pulled]) -> dict[str, bytes]:
    """Returns all files. Raises `click.UsageError` where versions have different files of one path."""
    found: dict[str, bytes] = {}
    whose: dict[str, str] = {}
    for one in pulled:
        for path, content in one.files.items():
            if found.setdefault(path, content) != content:
                raise click.UsageError(
                    f"{whose[path]} and {one.name} have different files {path}, which cannot lie side by side: "
                    "pull them into folders of their own."
                )
            whose.setdefault(path, one.name)
    return found
