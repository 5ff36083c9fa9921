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


class Count(Message):
    """Count objects: how they are found, of which classes, and the least that counts."""

    op: Literal["count"]
    kind: Literal["watershed", "components", "own"] = "watershed"
    of: list[ClassId]
    min_size: Annotated[int, Field(ge=1, le=2**40)] = 1


class Stroke(Message):
    """A scribble: pixels that belong to a class."""

    op: Literal["stroke"]
    image: str
    frame: Index = 0
    plane: Index = 0
    value: Byte | None = None
    """A class of the project, or 255, which erases; None = the class `label` of the run `run`, which becomes one of the project."""
    run: str | None = None
    label: ClassId | None = None
    radius: Annotated[float, Field(gt=0, le=500)]
    points: Annotated[list[tuple[float, float]], Field(min_length=1, max_length=20000)]
    """(Y, X) in pixels; (0, 0) is the outer corner of the first one."""


class ClearStrokes(Message):
    """Remove all scribbles of a picture."""

    op: Literal["clear"]
    image: str


class Request(Message):
    """A message of the page."""

    tag: Annotated[str, Field(max_length=40)] | None = None
    """Mark by which `Stored` answers; a message that is sent once more is done once."""


class LookAgain(Request):
    """Make the tiles of the first page anew."""

    type: Literal["look"]


class StartRun(Request):
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
    teacher: str | None = None
    """Run whose labels, as edited and corrected, this one learns from."""
    like: str | None = None
    """Run whose classes this one keeps, where a person named, stroked or edited them."""


class OrderRun(Request):
    """Pause a run, resume it, let it finish now with what it has learned, or end it at once."""

    type: Literal["order"]
    run: str
    what: Literal["pause", "resume", "finish", "kill"]


class ChangeRun(Request):
    """Change options of a run while it learns: live ones at its next step, others after a restart from its checkpoint."""

    type: Literal["change"]
    run: str
    options: dict[str, Any] = Field(default_factory=dict)
    n_classes: NClasses = None


class ForkRun(Request):
    """Start another run from a checkpoint of this one."""

    type: Literal["fork"]
    run: str
    step: Index
    options: dict[str, Any] = Field(default_factory=dict)
    n_classes: NClasses = None


class NameRun(Request):
    """Name a run."""

    type: Literal["name_run"]
    run: str
    name: Annotated[str, Field(min_length=1, max_length=200)]


class RemoveRun(Request):
    """Move a run to the project's bin."""

    type: Literal["remove"]
    run: str


class EditRun(Request):
    """Edit the classes of a run."""

    type: Literal["edit"]
    run: str
    operation: Annotated[Rename | Recolour | MergeClasses | Ignore | Level | Count, Field(discriminator="op")]


class Paint(Message):
    """Paint over the labels of a picture."""

    do: Literal["paint"]
    image: str
    frame: Index = 0
    plane: Index = 0
    value: Annotated[int, Field(ge=0, le=65535)]
    """Class of the run; 0 = ignore."""
    radius: Annotated[float, Field(gt=0, le=500)]
    points: Annotated[list[tuple[float, float]], Field(min_length=1, max_length=20000)]


class Give(Message):
    """Give the region under a point, or the object there, to a class."""

    do: Literal["give"]
    image: str
    frame: Index = 0
    point: tuple[Index, ...]
    """Pixel: (Y, X) or (Z, Y, X)."""
    value: Annotated[int, Field(ge=0, le=65535)]
    whole: Literal["region", "object"] = "region"


class Remake(Message):
    """Join the objects under some points, cut those under a line, draw one as the pixels of a stroke, or remove those under points."""

    do: Literal["join", "cut", "draw", "drop"]
    image: str
    frame: Index = 0
    plane: Index = 0
    radius: Annotated[float, Field(gt=0, le=500)] = 1
    points: Annotated[list[tuple[float, float]], Field(min_length=1, max_length=20000)]
    """(Y, X) in pixels."""


class Correct(Request):
    """Correct the labels or the objects of one picture by hand."""

    type: Literal["correct"]
    run: str
    what: Annotated[Paint | Give | Remake, Field(discriminator="do")]


class SplitClass(Request):
    """Split a class by clustering its regions."""

    type: Literal["split"]
    run: str
    id: ClassId
    parts: Annotated[int, Field(ge=2, le=12)] = 2


class StandOut(Request):
    """Give every class of a run a colour that differs from a picture beneath it."""

    type: Literal["stand_out"]
    run: str
    image: str
    frame: Index = 0


class AddClass(Request):
    """Add a class to the project, to be drawn."""

    type: Literal["add_class"]
    name: Annotated[str, Field(max_length=200)] = ""


class Scribble(Request):
    """Draw a stroke, or clear those of a picture."""

    type: Literal["scribble"]
    operation: Annotated[Stroke | ClearStrokes, Field(discriminator="op")]


class AskAnswer(Request):
    """Classify the part of a picture that is in view by all strokes, at once."""

    type: Literal["answer"]
    image: str
    frame: Index = 0
    plane: Index = 0
    box: tuple[Index, Index, Index, Index]
    """Top, left, bottom, right in pixels."""


class Turn(Request):
    """Undo or redo the last edit of a run, or of the scribbles."""

    type: Literal["undo", "redo"]
    scope: str


class AddPictures(Request):
    """Add pictures, or folders with all their pictures, from the folders that the studio was given."""

    type: Literal["add"]
    places: Annotated[list[str], Field(min_length=1, max_length=2000)]
    """As ``/api/folder`` names them."""


class Want(Request):
    """Segment a picture, or a frame of it, that has no result in this run yet."""

    type: Literal["want"]
    run: str
    image: str
    frame: Index = 0


class Export(Request):
    """Write edited labels of these pictures (None = all) in some formats."""

    type: Literal["export"]
    run: str
    images: list[str] | None = None
    formats: list[str]


class Apply(Request):
    """Segment another folder with a run's model and edits, and write it in some formats."""

    type: Literal["apply"]
    run: str
    folder: str
    formats: list[str]


RunRequest = LookAgain | StartRun | OrderRun | ChangeRun | ForkRun | NameRun | RemoveRun
EditRequest = EditRun | SplitClass | StandOut | Correct | AddClass | Scribble | AskAnswer | Turn
PageRequest = Annotated[RunRequest | EditRequest | AddPictures | Want | Export | Apply, Field(discriminator="type")]
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
    classes: list[dict[str, Any]]
    """Classes of the project: id, name, rgba."""
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
    identity: int | None = None
    """The class of the project that it is."""


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
    counting: dict[str, Any] | None
    """How objects are counted: kind, of, min_size; None = they are not."""
    corrected: dict[str, int]
    """By picture, a number that differs where its labels or objects were corrected otherwise by hand."""
    own_objects: bool
    """True if the method found objects itself."""
    links: dict[int, int]
    """The class of the run that each class of the project is, after merges."""
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


class Stored(Message):
    """A message of the page was done, or refused (a `Notice` has the reason)."""

    type: Literal["stored"] = "stored"
    tag: str


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


class Answer(Message):
    """Classes of a part of a picture, predicted from the strokes so far; of two answers the one of the larger stamp counts."""

    type: Literal["answered"] = "answered"
    stamp: int
    image: str
    frame: int
    plane: int
    box: tuple[int, int, int, int]
    shape: tuple[int, int]
    """Rows and columns of ``/api/answer``."""
    spot: tuple[int, int]
    """(Y, X) of the place where the answer is least certain."""
    seconds: float
    whole: bool
    """True if every pixel was classified."""


class JobMessage(Message):
    """Progress of an export, or of another folder that is segmented."""

    type: Literal["job"] = "job"
    id: int
    title: str
    done: int = 0
    total: int
    state: Literal["working", "done", "failed"] = "working"
    folder: str
    formats: list[str] = []
    files: list[str] = []
    failures: list[tuple[str, str]] = []


class Notice(Message):
    """One line for the user."""

    type: Literal["notice"] = "notice"
    kind: Literal["info", "error"] = "info"
    text: str


Update = ProjectState | Methods | RunState | Look | Removed | Figures | Preview | Answer | JobMessage | Stored | Notice
"""Messages of the server."""

REQUESTS: TypeAdapter[Any] = TypeAdapter(PageRequest)


def schema() -> dict[str, Any]:
    """Return the JSON schema of all messages, both ways."""
    return {"page": REQUESTS.json_schema(), "server": TypeAdapter(Update).json_schema()}
