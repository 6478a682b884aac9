"""What files of `deploy/` say that the product has to know: commands with their options, and variables."""

from collections.abc import Sequence
from typing import Any

from typer.main import get_group

from kiket_worker.cli.app import app
from kiket_worker.settings import Settings

VARIABLES = {str(field.alias) for field in Settings.model_fields.values()}
# boto3 reads these, by its documentation.
BOTO3 = {"AWS_SHARED_CREDENTIALS_FILE", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3", "AWS_ROLE_ARN"}


def unknown_arguments(arguments: Sequence[str]) -> list[str]:
    """What of a command line after `kiket-worker` the product does not have."""
    name, *rest = arguments
    commands = get_group(app).commands
    if name not in commands:
        return [name]
    command: Any = commands[name]
    takes = {option: not parameter.is_flag for parameter in command.params for option in parameter.opts}
    unknown, waiting = [], list(rest)
    while waiting:
        option = waiting.pop(0)
        if option not in takes:
            unknown.append(option)
        elif takes[option]:
            waiting.pop(0)
    return unknown


def unknown_variables(names: set[str]) -> set[str]:
    """Which variables nobody reads."""
    return names - VARIABLES - BOTO3
