"""The base of everything that is set from outside: frozen, and an unknown key is an error."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A group of settings. Each group is declared beside the code that it configures."""

    model_config = ConfigDict(frozen=True, extra="forbid")
