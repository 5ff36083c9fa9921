"""Every message between page and server, with its schema. The page says what it wants; the server tells what is.

Messages are JSON objects with a `type`. What cannot be read, or has a field too many, is answered with a `Notice`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Byte = Annotated[int, Field(ge=0, le=255)]
ClassId = Annotated[int, Field(ge=1, le=65535)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Rename(_Message):
    """Give a class a name."""

    op: Literal["rename"]
    id: ClassId
    name: Annotated[str, Field(min_length=1, max_length=200)]


class Recolour(_Message):
    """Give a class a colour."""

    op: Literal["recolour"]
    id: ClassId
    rgba: tuple[Byte, Byte, Byte, Byte]


class MergeClasses(_Message):
    """Make all of one class part of another."""

    op: Literal["merge"]
    source: ClassId
    target: ClassId


class Ignore(_Message):
    """Leave a class out of the labels (0), or take it in again."""

    op: Literal["ignore"]
    id: ClassId
    on: bool


class Level(_Message):
    """Cut the merge tree here, in all pictures of the model; -1 = the labels as they were learned."""

    op: Literal["level"]
    level: Annotated[float, Field(ge=-1, allow_inf_nan=False)]


class Stroke(_Message):
    """A scribble: this is of that class."""

    op: Literal["stroke"]
    image: str
    frame: Annotated[int, Field(ge=0)] = 0
    plane: Annotated[int, Field(ge=0)] = 0
    value: Annotated[int, Field(ge=0, le=254)]
    radius: Annotated[float, Field(gt=0, le=500)]
    points: Annotated[list[tuple[float, float]], Field(min_length=1, max_length=20000)]
    """(Y, X) in pixels; (0, 0) is the outer corner of the first one."""


class ClearStrokes(_Message):
    """Take all scribbles of a picture away."""

    op: Literal["clear"]
    image: str


class StartRun(_Message):
    """Learn with a method and segment all pictures."""

    type: Literal["start"]
    name: Annotated[str, Field(max_length=200)] = ""
    method: str
    preset: str = "default"
    n_classes: Annotated[int, Field(ge=1, le=255)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    options: dict[str, Any] = {}
    images: list[str] | None = None
    """Names of the pictures to learn from; None = all."""
    use_scribbles: bool = False


class OrderRun(_Message):
    """Pause a run, go on with it, let it finish now with what it has learned, or end it at once."""

    type: Literal["order"]
    run: str
    what: Literal["pause", "resume", "finish", "kill"]


class ChangeRun(_Message):
    """Change options of a run while it learns: it pauses at a checkpoint and goes on from there with the new ones."""

    type: Literal["change"]
    run: str
    options: dict[str, Any] = {}
    n_classes: Annotated[int, Field(ge=1, le=255)] | None = None


class ForkRun(_Message):
    """Begin another run from a checkpoint of this one."""

    type: Literal["fork"]
    run: str
    step: Annotated[int, Field(ge=0)]
    options: dict[str, Any] = {}
    n_classes: Annotated[int, Field(ge=1, le=255)] | None = None


class NameRun(_Message):
    """Give a run a name."""

    type: Literal["name_run"]
    run: str
    name: Annotated[str, Field(min_length=1, max_length=200)]


class RemoveRun(_Message):
    """Put a run away."""

    type: Literal["remove"]
    run: str


class EditRun(_Message):
    """Do something to the classes of a run by hand."""

    type: Literal["edit"]
    run: str
    operation: Annotated[Rename | Recolour | MergeClasses | Ignore | Level, Field(discriminator="op")]


class SplitClass(_Message):
    """Cluster one class alone."""

    type: Literal["split"]
    run: str
    id: ClassId
    parts: Annotated[int, Field(ge=2, le=12)] = 2


class Scribble(_Message):
    """Draw, or clear."""

    type: Literal["scribble"]
    operation: Annotated[Stroke | ClearStrokes, Field(discriminator="op")]


class Turn(_Message):
    """Undo or redo the last thing that was done by hand in a run, or to the scribbles."""

    type: Literal["undo", "redo"]
    scope: str


class Want(_Message):
    """Segment a picture (a frame of it) that has no result in this run yet."""

    type: Literal["want"]
    run: str
    image: str
    frame: Annotated[int, Field(ge=0)] = 0


class Export(_Message):
    """Write edited labels of these pictures (None = all) in some formats."""

    type: Literal["export"]
    run: str
    images: list[str] | None = None
    formats: list[str]


class Apply(_Message):
    """Segment another folder with a run's model and edits, and write it in some formats."""

    type: Literal["apply"]
    run: str
    folder: str
    formats: list[str]


Wish = Annotated[
    StartRun
    | OrderRun
    | ChangeRun
    | ForkRun
    | NameRun
    | RemoveRun
    | EditRun
    | SplitClass
    | Scribble
    | Turn
    | Want
    | Export
    | Apply,
    Field(discriminator="type"),
]
"""What the page may say."""


class ProjectState(_Message):
    """The project: its pictures and what can be done with them."""

    type: Literal["project"] = "project"
    version: str
    name: str
    folder: str
    roots: list[str]
    images: list[str]
    formats: list[tuple[str, str]]
    strokes: list[dict[str, Any]]
    can_undo: bool
    can_redo: bool


class Methods(_Message):
    """The methods and the forms of their options."""

    type: Literal["methods"] = "methods"
    methods: list[dict[str, Any]]


class ClassRow(_Message):
    """One class as edited."""

    id: int
    name: str
    rgba: tuple[int, int, int, int]
    share: float
    ignored: bool
    channels: tuple[int, ...]
    """Channels of the model's probabilities that belong to it."""


class RunState(_Message):
    """A run as it is now."""

    type: Literal["run"] = "run"
    id: str
    name: str
    method: str
    preset: str
    n_classes: int | None
    seed: int
    options: dict[str, Any]
    origin: dict[str, Any] | None
    changes: list[dict[str, Any]]
    images: int
    state: Literal["starting", "learning", "segmenting", "paused", "done", "failed", "crashed"]
    message: str
    step: int
    total: int
    notes: list[str]
    failures: list[tuple[str, str]]
    checkpoints: list[int]
    results: list[str]
    """Pictures that have a result, as ``name`` or, for later frames, ``name#frame``."""
    level: float
    revision: int
    """Grows when classes of leaves change: merges and splits."""
    classes: list[ClassRow]
    can_undo: bool
    can_redo: bool


class Removed(_Message):
    """A run was put away."""

    type: Literal["removed"] = "removed"
    run: str


class Figures(_Message):
    """New lines of a run's journal: step, seconds, every loss term, counts. With `whole`, they take the place of all before."""

    type: Literal["figures"] = "figures"
    run: str
    rows: list[dict[str, float]]
    whole: bool = False


class Preview(_Message):
    """A new picture of what a run shows now."""

    type: Literal["preview"] = "preview"
    run: str
    step: int
    areas: list[dict[str, Any]]


class Job(_Message):
    """An export, or another folder being segmented."""

    type: Literal["job"] = "job"
    id: int
    title: str
    done: int
    total: int
    state: Literal["working", "done", "failed"]
    folder: str
    files: list[str]
    failures: list[tuple[str, str]]


class Notice(_Message):
    """One line for the person."""

    type: Literal["notice"] = "notice"
    kind: Literal["info", "error"] = "info"
    text: str


News = ProjectState | Methods | RunState | Removed | Figures | Preview | Job | Notice
"""What the server may say."""

WISHES: TypeAdapter[Any] = TypeAdapter(Wish)


def schema() -> dict[str, Any]:
    """Return the JSON schema of all messages, both ways."""
    return {"page": WISHES.json_schema(), "server": TypeAdapter(News).json_schema()}
