"""The base of everything that is set from outside: frozen, and an unknown key is an error."""

from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from voxmoe.errors import RecipeError


class Settings(BaseModel):
    """A group of settings. Each group is declared beside the code that it configures."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Settings)


def _groups(annotation: Any) -> list[type[Settings]]:
    """The groups of settings that a value of a type can be or hold."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [group for part in get_args(annotation) for group in _groups(part)]


def _called(group: type[Settings], kind: str) -> bool:
    """Whether it is told from the others of a union by this value of its key `kind`."""
    return "kind" in group.model_fields and kind in get_args(group.model_fields["kind"].annotation)


def _known(kind: type[Settings], place: tuple[int | str, ...]) -> list[str]:
    """The keys that there are beside the one at a place of an error, which names the kinds of unions, too."""
    groups = [kind]
    for key in place[:-1]:
        fields = [group.model_fields[str(key)] for group in groups if key in group.model_fields]
        if fields:
            groups = [group for field in fields for group in _groups(field.annotation)]
        else:
            groups = [group for group in groups if _called(group, str(key))] or groups
    return list(dict.fromkeys(name for group in groups for name in group.model_fields))


def problems(error: ValidationError, kind: type[Settings] | None = None) -> str:
    """Every wrong key or value with what is wrong about it, in one line; beside unknown keys those that `kind` has."""
    told = []
    for one in error.errors():
        said = one["msg"]
        if kind is not None and one["type"] == "extra_forbidden":
            said = f"no such key; there are {', '.join(_known(kind, one['loc']))}"
        told.append(": ".join(filter(None, (".".join(map(str, one["loc"])), said))))
    return "; ".join(told)


def read_yaml(kind: type[S], path: Path, what: str) -> S:
    """The settings in a YAML file; raises `RecipeError` that says why it is not `what` it is taken for."""
    try:
        return kind.model_validate(yaml.safe_load(path.read_text()))
    except ValidationError as error:
        raise RecipeError(f"{path}: not {what}: {problems(error, kind)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not {what}: not YAML: {error}") from None
