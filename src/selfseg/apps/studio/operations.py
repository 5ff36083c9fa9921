"""What is done by hand, as it comes from the page and as it stands in the log; `messages` has the rest of what is said."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Byte = Annotated[int, Field(ge=0, le=255)]
ClassId = Annotated[int, Field(ge=1, le=65535)]


class Message(BaseModel):
    """Base of everything that is said: nothing more than what is named may come."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Rename(Message):
    """Give a class a name."""

    op: Literal["rename"]
    id: ClassId
    name: Annotated[str, Field(min_length=1, max_length=200)]


class Recolour(Message):
    """Give a class a colour."""

    op: Literal["recolour"]
    id: ClassId
    rgba: tuple[Byte, Byte, Byte, Byte]


class MergeClasses(Message):
    """Make all of one class part of another."""

    op: Literal["merge"]
    source: ClassId
    target: ClassId


class Ignore(Message):
    """Leave a class out of the labels (0), or take it in again."""

    op: Literal["ignore"]
    id: ClassId
    on: bool


class Level(Message):
    """Cut the merge tree here, in all pictures of the model; -1 = the labels as they were learned."""

    op: Literal["level"]
    level: Annotated[float, Field(ge=-1, allow_inf_nan=False)]


class Stroke(Message):
    """A scribble: this is of that class."""

    op: Literal["stroke"]
    image: str
    frame: Annotated[int, Field(ge=0)] = 0
    plane: Annotated[int, Field(ge=0)] = 0
    value: Annotated[int, Field(ge=0, le=254)]
    radius: Annotated[float, Field(gt=0, le=500)]
    points: Annotated[list[tuple[float, float]], Field(min_length=1, max_length=20000)]
    """(Y, X) in pixels; (0, 0) is the outer corner of the first one."""


class ClearStrokes(Message):
    """Take all scribbles of a picture away."""

    op: Literal["clear"]
    image: str
