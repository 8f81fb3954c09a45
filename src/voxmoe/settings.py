"""The base of everything that is set from outside: frozen, and an unknown key is an error."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Settings(BaseModel):
    """A group of settings. Each group is declared beside the code that it configures."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def problems(error: ValidationError) -> str:
    """Every wrong key or value with what is wrong about it, in one line."""
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
