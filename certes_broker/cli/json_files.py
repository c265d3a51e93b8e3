"""JSON that a person wrote."""

from __future__ import annotations

import json
from typing import IO, Any, NoReturn

import click


def read_json(file: IO[bytes], hint: str) -> Any:
    """Reads data here, so that a mistake in it is told with its place in the file.

    `hint` is the parameter that named the file. Raises `click.BadParameter`.
    """
    given = getattr(file, "name", "-")
    name = "standard input" if given in ("-", "<stdin>") else given
    try:
        return json.loads(file.read().decode("utf-8-sig"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem = f"{name} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}."
    except UnicodeDecodeError:
        problem = f"{name} is not UTF-8."
    except ValueError as error:
        problem = f"{name} is no JSON: {error}."
    raise click.BadParameter(problem, param_hint=hint)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value; protobuf wants it in quotes")
