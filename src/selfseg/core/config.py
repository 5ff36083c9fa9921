"""Configuration: frozen, typed objects with one docstring under each field, the one source of flags, forms and files."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from selfseg.core.errors import UsageError
from selfseg.core.options import check_names


class Config(BaseModel):
    """Base of every method's configuration. Unknown fields are refused; values are checked; instances do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @classmethod
    def build(cls, values: Mapping[str, Any], what: str = "option") -> Self:
        """Make a configuration out of plain values, or raise `UsageError` that says what the first wrong field takes."""
        check_names(values, list(cls.model_fields), what)
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or "configuration"
            message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            fix = "see `selfseg methods NAME` for every option"
            raise UsageError(f"{what} {name!r}", expected=message, got=repr(first["input"]), fix=fix) from None

    def changed(self, **values: Any) -> Self:
        """Return a copy with some fields changed, checked again."""
        return type(self).build({**self.model_dump(), **values})
