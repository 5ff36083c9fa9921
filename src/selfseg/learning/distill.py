"""Distillation: a teacher's labels, without those it is not sure of, teach a U-Net that is faster and smoother."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable
from selfseg.core.errors import Failure, SelfsegError, UsageError
from selfseg.core.files import write_json
from selfseg.core.progress import Progress, Silent
from selfseg.learning.segmenter import Segmenter
from selfseg.learning.supervision import Annotations, find_label_set
from selfseg.measure._table import contingencies, pooled
from selfseg.measure.kinds import mask_kind, score
from selfseg.measure.overlap import connected_parts, hungarian_class_scores
from selfseg.measure.summary import Evaluation, Scores
from selfseg.read import Source, find_inputs
from selfseg.results.result import Result
from selfseg.segmenting.segmenting import How, iter_segment

PUPIL = "unet"
REPORT = "distillation.json"

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Comparison:
    """Teacher and pupil on the images that both segmented.

    Attributes
    ----------
    n_images
        Images.
    learned_from
        Share of the pixels that was sure enough to be learned from.
    agreement
        Share of the pixels on which both agree.
    agreement_when_sure
        The same over the pixels that were learned from.
    seconds
        Median time of a prediction, by ``teacher`` and ``pupil``, in this run.
    parts
        Mean number of connected parts of an image.
    truth
        Scores of both against truth, as `selfseg evaluate` gives them; empty without truth.
    """

    n_images: int
    learned_from: float
    agreement: float
    agreement_when_sure: float
    seconds: dict[str, float]
    parts: dict[str, float]
    truth: dict[str, dict[str, float]]


@dataclass
class Distilled:
    """A pupil, how it compares with its teacher, and the inputs that failed."""

    pupil: Segmenter
    comparison: Comparison
    failures: list[Failure]


@dataclass(frozen=True)
class Lesson:
    """What the teacher says of one image: labels ``[*S]``, 0 = none, and which of them are sure; and how long it took."""

    source: Source
    labels: Labels
    sure: NDArray[np.bool_]
    seconds: float


def distill(
    teacher: Segmenter,
    inputs: Any,
    out: str | Path | None = None,
    *,
    confidence: float = 0.9,
    preset: str = "fast",
    seed: int = 0,
    prepare: str | None = None,
    device: str = "auto",
    options: Mapping[str, Any] | None = None,
    truth: Any = None,
    truth_as: str = "sparse",
    axes: str | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
    **how: Any,
) -> Distilled:
    """Teach a U-Net what another model says of unlabelled images.

    Parameters
    ----------
    teacher
        A fitted model.
    inputs
        Images; a path, a folder, a glob, an array, an `Image`, or a list of any of these.
    out
        Folder of the pupil's model; the comparison is written beside it.
    confidence
        Pixels whose class the teacher gives a lower probability are not learned from; of each class, the surer half is always
        kept.
    preset, seed, prepare, device, options
        Of the pupil; its preparation is the teacher's unless given.
    truth, truth_as
        Labels of some of the images, to score both, and what their values mean (`supervision.MEANINGS`). Nothing is learned
        from them.
    axes, limit, progress
        As for `fit`.
    **how
        Further fields of `selfseg.learning.fitting.Fitting`: ``resume``, ``overwrite``.

    Raises
    ------
    SelfsegError
        If no input can be segmented, or the pupil cannot learn. One failing input among others is named in `failures`.
    UsageError
        If `confidence` is not a probability.
    """
    progress = progress or Silent()
    if not 0 <= confidence <= 1:
        got, fix = f"{confidence}", "give 0.6, say; 0 learns from every pixel"
        raise UsageError("--confidence", expected="a probability from 0 to 1", got=got, fix=fix)
    sources = find_inputs(inputs, limit=limit)
    truths = None if truth is None else find_label_set(truth, sources, truth_as)
    lessons, failures = ask(teacher, sources, confidence, axes, progress)
    prepare = prepare or str(teacher.preparation_)
    pupil = Segmenter(PUPIL, preset=preset, seed=seed, prepare=prepare, device=device, options=options)
    images = [lesson.source.content if lesson.source.path is None else lesson.source.path for lesson in lessons]
    told = [np.where(lesson.sure, lesson.labels, 0) for lesson in lessons]
    pupil.fit(images, told, labels_as="sparse", out=out, axes=axes, progress=progress, **how)
    pupil.model_ = replace(pupil.model_, table=_with_names(pupil.table_, teacher.table_))
    answers, failed = _answers(pupil, [lesson.source for lesson in lessons], axes, progress)
    annotations = None
    if truths is not None:
        annotations = truths.read({name: result.image for name, result in answers.items()})
    comparison = compare(lessons, answers, annotations)
    if out is not None:
        pupil.save(out)
        write_json(Path(out) / REPORT, {"confidence": confidence, "teacher": teacher.method, **asdict(comparison)})
    return Distilled(pupil, comparison, [*failures, *failed])


def ask(
    teacher: Segmenter, sources: list[Source], confidence: float, axes: str | None, progress: Progress
) -> tuple[list[Lesson], list[Failure]]:
    """Return what the teacher says of each input, and which inputs failed.

    Raises
    ------
    SelfsegError
        If all fail: the error of the first.
    """
    found, failures, first = [], [], None
    for source, outcome in iter_segment(teacher.fitted, sources, axes, How(progress=progress)):
        if isinstance(outcome, SelfsegError):
            failures.append((source.name, str(outcome)))
            first = first or outcome
            progress.say(str(outcome))
        else:
            found.append((source, outcome.labels, outcome.confidence.astype(np.float16), outcome.seconds))
    if first is not None and not found:
        raise first
    least = _thresholds([(labels, sure) for _, labels, sure, _ in found], len(teacher.table_), confidence)
    lessons = [
        Lesson(source, labels, (labels > 0) & (certain >= least[labels]), seconds)
        for source, labels, certain, seconds in found
    ]
    return lessons, failures


def _thresholds(
    found: list[tuple[Labels, NDArray[np.float16]]], n_classes: int, confidence: float
) -> NDArray[np.float16]:
    """Return the least confidence of each label ``[K + 1]``: `confidence`, or the class's median where that is lower."""
    least = np.full(n_classes + 1, confidence, np.float16)
    for label in range(1, n_classes + 1):
        values = np.concatenate([certain[labels == label] for labels, certain in found])
        if len(values):
            least[label] = min(confidence, np.sort(values)[len(values) // 2])
    return least


def _answers(
    pupil: Segmenter, sources: list[Source], axes: str | None, progress: Progress
) -> tuple[dict[str, Result], list[Failure]]:
    answers, failures = {}, []
    for source, outcome in iter_segment(pupil.fitted, sources, axes, How(progress=progress)):
        if isinstance(outcome, SelfsegError):
            failures.append((source.name, str(outcome)))
        else:
            answers[source.name] = outcome
    return answers, failures


def _with_names(table: ClassTable, teacher: ClassTable) -> ClassTable:
    """Give the pupil's classes the names and colours of the teacher's of the same id."""
    known = {item.id: item for item in teacher.classes}
    return ClassTable(
        tuple(
            replace(item, name=known[item.id].name, rgba=known[item.id].rgba) if item.id in known else item
            for item in table.classes
        )
    )


def compare(lessons: list[Lesson], answers: Mapping[str, Result], truths: Annotations | None) -> Comparison:
    """Compare the pupil's answers with the teacher's labels, and both with truth.

    Parameters
    ----------
    lessons
        The teacher's side.
    answers
        The pupil's side, by the name of the input; lessons without an answer are left out.
    truths
        Labels by the name of the input; None = none.
    """
    pairs = [(lesson, answers[lesson.source.name]) for lesson in lessons if lesson.source.name in answers]
    counted = same = sure = same_sure = 0
    for lesson, answer in pairs:
        inside, equal = lesson.labels > 0, lesson.labels == answer.labels
        counted, same = counted + int(inside.sum()), same + int((inside & equal).sum())
        sure, same_sure = sure + int(lesson.sure.sum()), same_sure + int((lesson.sure & equal).sum())
    sides = {
        "teacher": {lesson.source.name: lesson.labels for lesson, _ in pairs},
        "pupil": {lesson.source.name: answer.labels for lesson, answer in pairs},
    }
    return Comparison(
        len(pairs),
        sure / max(1, counted),
        same / max(1, counted),
        same_sure / max(1, sure),
        {
            "teacher": statistics.median(lesson.seconds for lesson, _ in pairs),
            "pupil": statistics.median(answer.seconds for _, answer in pairs),
        },
        {side: statistics.mean(_count_parts(labels) for labels in found.values()) for side, found in sides.items()},
        {} if truths is None else {side: _against(found, truths) for side, found in sides.items()},
    )


def _count_parts(labels: Labels) -> int:
    return len(np.unique(connected_parts(labels.astype(np.int64))))


def _against(found: Mapping[str, Labels], truths: Annotations) -> dict[str, float]:
    """Return the class scores of one side over the images that have truth; for objects also those of their mask."""
    result, frames = Evaluation({}, []), list(_frames(found, truths))
    for name, labels, truth in frames:
        result.images[name] = score(labels, truth, "classes", ignore=-1)
        result.tables.extend(contingencies(labels, truth, ignore=-1))
    if truths.objects and result.tables:
        mapping = hungarian_class_scores(pooled(result.tables)).mapping  # one matching for all images
        inside = [label for label, stands_for in mapping.items() if stands_for == 1]
        for name, labels, truth in frames:
            mask = mask_kind(np.isin(labels, inside), truth, ignore=-1)
            both = result.images[name]
            result.images[name] = Scores(both.means | mask.means, both.pooled | mask.pooled)
    return result.summary()


def _frames(found: Mapping[str, Labels], truths: Annotations) -> Iterator[tuple[str, Labels, Labels]]:
    """Yield the labels and the classes of each frame that has truth, -1 = none; of objects, 1 = within one."""
    for name, labels in found.items():
        frames = truths.arrays.get(name, [])
        if truths.objects:
            frames = [np.minimum(truth, 1) for truth in frames]
        parts = [labels] if labels.ndim == (frames[0].ndim if frames else 0) else list(labels)
        for number, truth in enumerate(frames):
            if (truth >= 0).any():
                yield f"{name} {number}" if len(frames) > 1 else name, parts[number], truth
