"""Every message between page and server, with its schema: requests of the page, and updates that the server sends.

Messages are JSON objects with a `type`. What cannot be read, or has a field too many, is answered with a `Notice`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Byte = Annotated[int, Field(ge=0, le=255)]
ClassId = Annotated[int, Field(ge=1, le=65535)]
Index = Annotated[int, Field(ge=0)]
NClasses = Annotated[int, Field(ge=1, le=255)] | None
Rgba = tuple[Byte, Byte, Byte, Byte]


class Message(BaseModel):
    """Base of all messages and operations: fields that are not named are refused."""

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
    rgba: Rgba


class MergeClasses(Message):
    """Merge one class into another."""

    op: Literal["merge"]
    source: ClassId
    target: ClassId


class Ignore(Message):
    """Leave a class out of the labels (0), or include it again."""

    op: Literal["ignore"]
    id: ClassId
    on: bool


class Level(Message):
    """Cut the merge tree at a level, in all pictures of the model; -1 = the labels as they were learned."""

    op: Literal["level"]
    level: Annotated[float, Field(ge=-1, allow_inf_nan=False)]


class Stroke(Message):
    """A scribble: pixels that belong to a class."""

    op: Literal["stroke"]
    image: str
    frame: Index = 0
    plane: Index = 0
    value: Annotated[int, Field(ge=0, le=254)]
    radius: Annotated[float, Field(gt=0, le=500)]
    points: Annotated[list[tuple[float, float]], Field(min_length=1, max_length=20000)]
    """(Y, X) in pixels; (0, 0) is the outer corner of the first one."""


class ClearStrokes(Message):
    """Remove all scribbles of a picture."""

    op: Literal["clear"]
    image: str


class LookAgain(Message):
    """Make the tiles of the first page anew."""

    type: Literal["look"]


class StartRun(Message):
    """Learn with a method and segment all pictures."""

    type: Literal["start"]
    name: Annotated[str, Field(max_length=200)] = ""
    method: str
    preset: str = "default"
    n_classes: NClasses = None
    seed: Index = 0
    options: dict[str, Any] = Field(default_factory=dict)
    images: list[str] | None = None
    """Names of the pictures to learn from; None = all."""
    use_scribbles: bool = False


class OrderRun(Message):
    """Pause a run, resume it, let it finish now with what it has learned, or end it at once."""

    type: Literal["order"]
    run: str
    what: Literal["pause", "resume", "finish", "kill"]


class ChangeRun(Message):
    """Change options of a run while it learns: live ones at its next step, others after a restart from its checkpoint."""

    type: Literal["change"]
    run: str
    options: dict[str, Any] = Field(default_factory=dict)
    n_classes: NClasses = None


class ForkRun(Message):
    """Start another run from a checkpoint of this one."""

    type: Literal["fork"]
    run: str
    step: Index
    options: dict[str, Any] = Field(default_factory=dict)
    n_classes: NClasses = None


class NameRun(Message):
    """Name a run."""

    type: Literal["name_run"]
    run: str
    name: Annotated[str, Field(min_length=1, max_length=200)]


class RemoveRun(Message):
    """Move a run to the project's bin."""

    type: Literal["remove"]
    run: str


class EditRun(Message):
    """Edit the classes of a run."""

    type: Literal["edit"]
    run: str
    operation: Annotated[Rename | Recolour | MergeClasses | Ignore | Level, Field(discriminator="op")]


class SplitClass(Message):
    """Split a class by clustering its regions."""

    type: Literal["split"]
    run: str
    id: ClassId
    parts: Annotated[int, Field(ge=2, le=12)] = 2


class Scribble(Message):
    """Draw a stroke, or clear those of a picture."""

    type: Literal["scribble"]
    operation: Annotated[Stroke | ClearStrokes, Field(discriminator="op")]


class Turn(Message):
    """Undo or redo the last edit of a run, or of the scribbles."""

    type: Literal["undo", "redo"]
    scope: str


class Want(Message):
    """Segment a picture, or a frame of it, that has no result in this run yet."""

    type: Literal["want"]
    run: str
    image: str
    frame: Index = 0


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


RunRequest = LookAgain | StartRun | OrderRun | ChangeRun | ForkRun | NameRun | RemoveRun
EditRequest = EditRun | SplitClass | Scribble | Turn
PageRequest = Annotated[RunRequest | EditRequest | Want | Export | Apply, Field(discriminator="type")]
"""Messages of the page."""


class ProjectState(Message):
    """The project: its pictures, its export formats and its scribbles."""

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
    message: str = ""
    step: int = 0
    total: int = 0
    notes: list[str] = []
    failures: list[tuple[str, str]] = []
    checkpoints: list[int]
    results: list[str]
    """Pictures that have a result, as ``name`` or, for later frames, ``name#frame``."""
    level: float
    revision: int
    """Grows when classes of leaves change: merges and splits."""
    classes: list[ClassRow]
    can_undo: bool
    can_redo: bool


class Look(Message):
    """The tiles of the first page: what each quick method makes of the pictures."""

    type: Literal["look"] = "look"
    tiles: list[dict[str, Any]]
    """Rows of ``look.json``: title, purpose, method, preset, options, command, facts, suggestion, error, pictures."""
    total: int
    """Tiles that there will be."""
    working: bool
    error: str = ""


class Removed(Message):
    """A run was moved to the bin."""

    type: Literal["removed"] = "removed"
    run: str


class Figures(Message):
    """New lines of a run's journal: step, seconds, every loss term, counts. With `whole`, they replace all before."""

    type: Literal["figures"] = "figures"
    run: str
    rows: list[dict[str, float]]
    whole: bool = False


class Preview(Message):
    """A new preview picture of a run."""

    type: Literal["preview"] = "preview"
    run: str
    step: int
    image: str
    """Name of the picture, ``name``, or ``name_f0012`` for a frame of a video."""
    areas: list[dict[str, Any]]


class JobMessage(Message):
    """Progress of an export, or of another folder that is segmented."""

    type: Literal["job"] = "job"
    id: int
    title: str
    done: int = 0
    total: int
    state: Literal["working", "done", "failed"] = "working"
    folder: str
    files: list[str] = []
    failures: list[tuple[str, str]] = []


class Notice(Message):
    """One line for the user."""

    type: Literal["notice"] = "notice"
    kind: Literal["info", "error"] = "info"
    text: str


Update = ProjectState | Methods | RunState | Look | Removed | Figures | Preview | JobMessage | Notice
"""Messages of the server."""

REQUESTS: TypeAdapter[Any] = TypeAdapter(PageRequest)


def schema() -> dict[str, Any]:
    """Return the JSON schema of all messages, both ways."""
    return {"page": REQUESTS.json_schema(), "server": TypeAdapter(Update).json_schema()}
