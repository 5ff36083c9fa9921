"""Every message between page and server, with its schema. The page says what it wants; the server tells what is.

Messages are JSON objects with a `type`. What cannot be read, or has a field too many, is answered with a `Notice`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from selfseg.apps.studio.operations import (
    ClassId,
    ClearStrokes,
    Ignore,
    Level,
    MergeClasses,
    Message,
    Recolour,
    Rename,
    Stroke,
)


class StartRun(Message):
    """Learn with a method and segment all pictures."""

    type: Literal["start"]
    name: Annotated[str, Field(max_length=200)] = ""
    method: str
    preset: str = "default"
    n_classes: Annotated[int, Field(ge=1, le=255)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    options: dict[str, Any] = Field(default_factory=dict)
    images: list[str] | None = None
    """Names of the pictures to learn from; None = all."""
    use_scribbles: bool = False


class OrderRun(Message):
    """Pause a run, go on with it, let it finish now with what it has learned, or end it at once."""

    type: Literal["order"]
    run: str
    what: Literal["pause", "resume", "finish", "kill"]


class ChangeRun(Message):
    """Change options of a run while it learns: live ones at its next step; with others it pauses and begins from its checkpoint."""

    type: Literal["change"]
    run: str
    options: dict[str, Any] = Field(default_factory=dict)
    n_classes: Annotated[int, Field(ge=1, le=255)] | None = None


class ForkRun(Message):
    """Begin another run from a checkpoint of this one."""

    type: Literal["fork"]
    run: str
    step: Annotated[int, Field(ge=0)]
    options: dict[str, Any] = Field(default_factory=dict)
    n_classes: Annotated[int, Field(ge=1, le=255)] | None = None


class NameRun(Message):
    """Give a run a name."""

    type: Literal["name_run"]
    run: str
    name: Annotated[str, Field(min_length=1, max_length=200)]


class RemoveRun(Message):
    """Put a run away."""

    type: Literal["remove"]
    run: str


class EditRun(Message):
    """Do something to the classes of a run by hand."""

    type: Literal["edit"]
    run: str
    operation: Annotated[Rename | Recolour | MergeClasses | Ignore | Level, Field(discriminator="op")]


class SplitClass(Message):
    """Cluster one class alone."""

    type: Literal["split"]
    run: str
    id: ClassId
    parts: Annotated[int, Field(ge=2, le=12)] = 2


class Scribble(Message):
    """Draw, or clear."""

    type: Literal["scribble"]
    operation: Annotated[Stroke | ClearStrokes, Field(discriminator="op")]


class Turn(Message):
    """Undo or redo the last thing that was done by hand in a run, or to the scribbles."""

    type: Literal["undo", "redo"]
    scope: str


class Want(Message):
    """Segment a picture (a frame of it) that has no result in this run yet."""

    type: Literal["want"]
    run: str
    image: str
    frame: Annotated[int, Field(ge=0)] = 0


class Export(Message):
    """Write edited labels of these pictures (None = all) in some formats."""

    type: Literal["export"]
    run: str
    images: list[str] | None = None
    formats: list[str]


class Apply(Message):
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


class ProjectState(Message):
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


class Methods(Message):
    """The methods and the forms of their options."""

    type: Literal["methods"] = "methods"
    methods: list[dict[str, Any]]


class ClassRow(Message):
    """One class as edited."""

    id: int
    name: str
    rgba: tuple[int, int, int, int]
    share: float
    ignored: bool
    channels: tuple[int, ...]
    """Channels of the model's probabilities that belong to it."""


class RunState(Message):
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


class Removed(Message):
    """A run was put away."""

    type: Literal["removed"] = "removed"
    run: str


class Figures(Message):
    """New lines of a run's journal: step, seconds, every loss term, counts. With `whole`, they take the place of all before."""

    type: Literal["figures"] = "figures"
    run: str
    rows: list[dict[str, float]]
    whole: bool = False


class Preview(Message):
    """A new picture of what a run shows now."""

    type: Literal["preview"] = "preview"
    run: str
    step: int
    image: str
    """The picture that it is of, ``name``, or ``name_f0012`` for a frame of a video."""
    areas: list[dict[str, Any]]


class JobMessage(Message):
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


class Notice(Message):
    """One line for the person."""

    type: Literal["notice"] = "notice"
    kind: Literal["info", "error"] = "info"
    text: str


News = ProjectState | Methods | RunState | Removed | Figures | Preview | JobMessage | Notice
"""What the server may say."""

WISHES: TypeAdapter[Any] = TypeAdapter(Wish)


def schema() -> dict[str, Any]:
    """Return the JSON schema of all messages, both ways."""
    return {"page": WISHES.json_schema(), "server": TypeAdapter(News).json_schema()}
