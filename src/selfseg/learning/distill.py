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
from selfseg.core.files import Manifest, write_json
from selfseg.core.options import DistillOptions, LearnerOptions, option_names, share_out
from selfseg.core.progress import Progress, Silent
from selfseg.learning.annotations import Annotations, find_label_files
from selfseg.learning.segmenter import Segmenter
from selfseg.measure._table import contingencies, pooled
from selfseg.measure.kinds import Evaluation, Scores, mask_kind, score
from selfseg.measure.overlap import connected_parts, hungarian_class_scores
from selfseg.read import Source, find_inputs
from selfseg.results.model import RUN
from selfseg.results.result import Result
from selfseg.segmenting.images import Settings, iter_segment

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
    """The teacher's answer for one image: labels ``[*S]``, 0 = none, which of them are sure, and the seconds it took."""

    source: Source
    labels: Labels
    sure: NDArray[np.bool_]
    seconds: float


def distill(
    teacher: Segmenter, inputs: Any, out: str | Path | None = None, *, progress: Progress | None = None, **options: Any
) -> Distilled:
    """Train a U-Net on the labels that another model gives unlabelled images.

    Parameters
    ----------
    teacher
        A fitted model.
    inputs
        Images; a path, a folder, a glob, an array, an `Image`, or a list of any of these.
    out
        Folder of the pupil's model; the comparison is written beside it.
    progress
        Progress reporter.
    **options
        Fields of `selfseg.core.options.DistillOptions`: ``confidence``, ``preset``, ``truth``, ... The pupil's preparation is the
        teacher's unless given; of each class, the surer half is always learned from.

    Raises
    ------
    SelfsegError
        If no input can be segmented, or the pupil cannot learn. One failing input among others is named in `failures`.
    UsageError
        If an option is unknown or wrong, before any work.
    """
    (chosen,) = share_out(options, DistillOptions)
    progress = progress or Silent()
    if not 0 <= chosen.confidence <= 1:
        raise UsageError(
            "--confidence",
            expected="a probability from 0 to 1",
            got=f"{chosen.confidence}",
            fix="give 0.6, say; 0 learns from every pixel",
        )
    sources = find_inputs(inputs, chosen.limit, progress.say)
    truths = None if chosen.truth is None else find_label_files(chosen.truth, sources, chosen.truth_as, progress.say)
    lessons, failures = ask(teacher, sources, chosen.confidence, chosen.axes, progress)
    learner = {name: getattr(chosen, name) for name in option_names(LearnerOptions)}
    pupil = Segmenter(PUPIL, **{**learner, "prepare": chosen.prepare or str(teacher.preparation_)})
    sources = [lesson.source for lesson in lessons]
    labels = [np.where(lesson.sure, lesson.labels, 0) for lesson in lessons]
    again = {"resume": chosen.resume, "overwrite": chosen.overwrite}
    pupil.fit(sources, labels, labels_as="sparse", out=out, axes=chosen.axes, progress=progress, **again)
    pupil.model_ = replace(pupil.model_, table=_with_names(pupil.table_, teacher.table_))
    answers: dict[str, Result] = {}
    for source, outcome in iter_segment(pupil.fitted, sources, chosen.axes, Settings(progress=progress)):
        if isinstance(outcome, SelfsegError):
            failures.append((source.name, str(outcome)))
        else:
            answers[source.name] = outcome
    annotations = None
    if truths is not None:
        annotations = truths.read({name: result.image for name, result in answers.items()})
    comparison = compare(lessons, answers, annotations)
    if out is not None:
        pupil.save(out)
        with Manifest(out, RUN):
            write_json(
                Path(out) / REPORT, {"confidence": chosen.confidence, "teacher": teacher.method, **asdict(comparison)}
            )
    return Distilled(pupil, comparison, failures)


def ask(
    teacher: Segmenter, sources: list[Source], confidence: float, axes: str | None, progress: Progress
) -> tuple[list[Lesson], list[Failure]]:
    """Return the teacher's answer for each input, and the inputs that failed.

    Raises
    ------
    SelfsegError
        If all fail: the error of the first.
    """
    answers, failures, first = [], [], None
    for source, outcome in iter_segment(teacher.fitted, sources, axes, Settings(progress=progress)):
        if isinstance(outcome, SelfsegError):
            failures.append((source.name, str(outcome)))
            first = first or outcome
            progress.say(str(outcome))
        else:  # the probabilities are not kept
            answers.append((source, outcome.labels, outcome.confidence.astype(np.float16), outcome.seconds))
    if first is not None and not answers:
        raise first
    least = _thresholds([(labels, certain) for _, labels, certain, _ in answers], len(teacher.table_), confidence)
    lessons = [
        Lesson(source, labels, (labels > 0) & (certain >= least[labels]), seconds)
        for source, labels, certain, seconds in answers
    ]
    return lessons, failures


def _thresholds(
    answers: list[tuple[Labels, NDArray[np.float16]]], n_classes: int, confidence: float
) -> NDArray[np.float16]:
    """Return the least confidence of each label ``[K + 1]``: `confidence`, or the class's median where that is lower."""
    least = np.full(n_classes + 1, confidence, np.float16)
    for label in range(1, n_classes + 1):
        values = np.concatenate([certain[labels == label] for labels, certain in answers])
        if len(values):
            least[label] = min(confidence, np.sort(values)[len(values) // 2])
    return least


def _with_names(table: ClassTable, teacher: ClassTable) -> ClassTable:
    """Give the pupil's classes the names and colours of the teacher's of the same id."""
    known = {item.id: item for item in teacher.classes}
    rows = [(item, known.get(item.id, item)) for item in table.classes]
    return ClassTable(tuple(replace(item, name=like.name, rgba=like.rgba) for item, like in rows))


def compare(lessons: list[Lesson], answers: Mapping[str, Result], truths: Annotations | None) -> Comparison:
    """Compare the pupil's answers, by the name of the input, with the teacher's labels, and both with truth.

    Lessons without an answer are left out.
    """
    pairs = [(lesson, answers[lesson.source.name]) for lesson in lessons if lesson.source.name in answers]
    counted = sum(int((lesson.labels > 0).sum()) for lesson, _ in pairs)
    sure = sum(int(lesson.sure.sum()) for lesson, _ in pairs)
    equal = [(lesson, lesson.labels == answer.labels) for lesson, answer in pairs]
    same = sum(int((alike & (lesson.labels > 0)).sum()) for lesson, alike in equal)
    same_sure = sum(int((alike & lesson.sure).sum()) for lesson, alike in equal)
    sides: dict[str, list[Any]] = {"teacher": [lesson for lesson, _ in pairs], "pupil": [answer for _, answer in pairs]}
    names = [lesson.source.name for lesson, _ in pairs]
    labels = {side: {n: one.labels for n, one in zip(names, ones, strict=True)} for side, ones in sides.items()}
    return Comparison(
        len(pairs),
        sure / max(1, counted),
        same / max(1, counted),
        same_sure / max(1, sure),
        {side: statistics.median(one.seconds for one in ones) for side, ones in sides.items()},
        {side: statistics.mean(map(_count_parts, arrays.values())) for side, arrays in labels.items()},
        {} if truths is None else {side: _class_scores(arrays, truths) for side, arrays in labels.items()},
    )


def _count_parts(labels: Labels) -> int:
    return len(np.unique(connected_parts(labels.astype(np.int64))))


def _class_scores(arrays: Mapping[str, Labels], truths: Annotations) -> dict[str, float]:
    """Return the class scores of one side over the images that have truth; for objects also those of their mask."""
    result, frames = Evaluation({}, []), list(_frames(arrays, truths))
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


def _frames(arrays: Mapping[str, Labels], truths: Annotations) -> Iterator[tuple[str, Labels, Labels]]:
    """Yield the labels and the classes of each frame that has truth, -1 = none; of objects, 1 = within one."""
    for name, labels in arrays.items():
        frames = truths.arrays.get(name, [])
        if truths.objects:
            frames = [np.minimum(truth, 1) for truth in frames]
        parts = [labels] if labels.ndim == (frames[0].ndim if frames else 0) else list(labels)
        for number, truth in enumerate(frames):
            if (truth >= 0).any():
                yield f"{name} {number}" if len(frames) > 1 else name, parts[number], truth
