"""Distillation: a teacher's labels, without those it is not sure of, teach a U-Net that is faster and smoother.

A teacher that finds objects teaches objects: ground and objects, without unsure objects, rims, and unsure ground.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from selfseg.core.classes import ClassTable
from selfseg.core.errors import Failure, SelfsegError, UsageError
from selfseg.core.files import Manifest, write_json
from selfseg.core.options import AUTO, DistillOptions, LearnerOptions, option_names, share_out
from selfseg.core.progress import Progress, Silent
from selfseg.learning.annotations import Annotations, find_label_files
from selfseg.learning.segmenter import Segmenter
from selfseg.measure._table import contingencies, pooled
from selfseg.measure.kinds import Evaluation, Scores, instance_kind, mask_kind, score
from selfseg.measure.overlap import connected_parts, hungarian_class_scores
from selfseg.methods.base import find_method
from selfseg.read import Source, find_inputs
from selfseg.results.model import RUN
from selfseg.results.result import Result
from selfseg.segmenting.images import Settings, iter_segment

PUPIL = "unet"
REPORT = "distillation.json"

CONFIDENCE, OBJECT_CONFIDENCE = 0.9, 0.7
"""Least confidence of what is learned from: of pixels, and of objects and the ground around them."""

GROUND = 1
"""Class of the ground for a pupil of objects; the other classes follow in the teacher's order."""

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
    """The teacher's answer for one image: labels ``[*S]``, 0 = none, which of them are sure, the seconds it took, and its objects."""

    source: Source
    labels: Labels
    sure: NDArray[np.bool_]
    seconds: float
    objects: Labels | None = None


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
        teacher's unless given, with that of the preset behind it; of each class, the surer half is always learned from.

    Raises
    ------
    SelfsegError
        If no input can be segmented, or the pupil cannot learn. One failing input among others is named in `failures`.
    UsageError
        If an option is unknown or wrong, before any work.
    """
    (chosen,) = share_out(options, DistillOptions)
    progress = progress or Silent()
    if chosen.confidence is not None and not 0 <= chosen.confidence <= 1:
        raise UsageError(
            "--confidence",
            expected="a probability from 0 to 1",
            got=f"{chosen.confidence}",
            fix="give 0.6, say; 0 learns from every pixel",
        )
    sources = find_inputs(inputs, chosen.limit, progress.say)
    truths = None if chosen.truth is None else find_label_files(chosen.truth, sources, chosen.truth_as, progress.say)
    lessons, order, failures = ask(teacher, sources, chosen.confidence, chosen.axes, progress)
    own = lessons[0].objects is not None
    learner = {name: getattr(chosen, name) for name in option_names(LearnerOptions)}
    preset = chosen.preset if chosen.preset != AUTO else "objects" if own else "fast"
    steps = [str(teacher.preparation_), find_method(PUPIL).presets.get(preset, {}).get("prepare", "")]
    prepare = chosen.prepare or ",".join(step for step in steps if step)
    pupil = Segmenter(PUPIL, **{**learner, "preset": preset, "prepare": prepare})
    sources = [lesson.source for lesson in lessons]
    labels = [np.where(lesson.sure, lesson.labels, 0) for lesson in lessons]
    again = {"resume": chosen.resume, "overwrite": chosen.overwrite}
    pupil.fit(sources, labels, labels_as="sparse", out=out, axes=chosen.axes, progress=progress, **again)
    pupil.model_ = replace(pupil.model_, table=_with_names(pupil.table_, teacher.table_, order))
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
                Path(out) / REPORT,
                {"confidence": _least(chosen.confidence, own), "teacher": teacher.method, **asdict(comparison)},
            )
    return Distilled(pupil, comparison, failures)


def ask(
    teacher: Segmenter, sources: list[Source], confidence: float | None, axes: str | None, progress: Progress
) -> tuple[list[Lesson], list[int], list[Failure]]:
    """Return the teacher's answer for each input, the teacher's class behind each class of the pupil, and the inputs that failed.

    The pupil's classes are the teacher's; of objects the ground is the first, `GROUND`.

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
            certain = outcome.confidence.astype(np.float16)
            answers.append(
                (source, outcome.labels, certain, outcome.seconds, outcome.objects, "T" in outcome.image.axes)
            )
    if first is not None and not answers:
        raise first
    n_classes = max(item.id for item in teacher.table_.classes)
    own = all(objects is not None for *_, objects, _ in answers)
    least = _least(confidence, own)
    if own:
        return *_object_lessons(answers, n_classes, least), failures
    levels = _thresholds([(labels, certain) for _, labels, certain, *_ in answers], n_classes, least)
    lessons = [
        Lesson(source, labels, (labels > 0) & (certain >= levels[labels]), seconds)
        for source, labels, certain, seconds, *_ in answers
    ]
    return lessons, list(range(1, n_classes + 1)), failures


def _object_lessons(answers: list[Any], n_classes: int, least: float) -> tuple[list[Lesson], list[int]]:
    """Return the lessons of a teacher that finds objects, and its classes with that of the ground first."""
    order, outside = list(range(1, n_classes + 1)), np.zeros(n_classes, np.int64)
    for _, labels, _, _, objects, _ in answers:
        outside += np.bincount(labels[objects == 0], minlength=n_classes + 1)[1:]
    order.insert(0, order.pop(int(np.argmax(outside))))
    number, lessons = np.append(0, np.argsort(order) + GROUND), []
    for source, labels, certain, seconds, objects, series in answers:
        parts = [labels, certain, objects]
        frames = zip(*parts, strict=True) if series else [parts]
        sure = np.stack([sure_objects(one, about, own, least) for one, about, own in frames])
        lessons.append(Lesson(source, number[labels], sure if series else sure[0], seconds, objects))
    return lessons, order


def _least(confidence: float | None, own: bool) -> float:
    """Return the least confidence: that which is given, or the default of pixels, or of the teacher's own objects."""
    return (OBJECT_CONFIDENCE if own else CONFIDENCE) if confidence is None else confidence


def sure_objects(
    labels: Labels, certain: NDArray[np.floating], objects: Labels, confidence: float
) -> NDArray[np.bool_]:
    """Return what of an image is learned from ``[*S]``: sure objects without their rims, and sure ground.

    An object is as sure as its pixels are at the mean; the surer half of the objects' pixels counts whatever the confidence. A rim is a
    pixel that touches another object or the ground, or a pixel of the ground that touches an object.
    """
    inside = objects > 0
    counts = np.maximum(np.bincount(objects.ravel()), 1)
    means = (np.bincount(objects.ravel(), certain.ravel().astype(np.float64)) / counts)[objects]
    least = min(confidence, float(np.median(means[inside]))) if inside.any() else confidence
    rim = maximum_filter(objects, 3) != minimum_filter(objects, 3)
    return np.asarray((labels > 0) & ~rim & np.where(inside, means >= least, certain >= confidence))


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


def _with_names(table: ClassTable, teacher: ClassTable, order: Sequence[int]) -> ClassTable:
    """Give the pupil's classes the names and colours of the teacher's; `order` has the teacher's id of each."""
    known = {order.index(item.id) + 1: item for item in teacher.classes}
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
    both = list(zip(sides.items(), labels.values(), strict=True))
    return Comparison(
        len(pairs),
        sure / max(1, counted),
        same / max(1, counted),
        same_sure / max(1, sure),
        {side: statistics.median(one.seconds for one in ones) for side, ones in sides.items()},
        {side: statistics.mean(map(_count_parts, ones)) for side, ones in sides.items()},
        {} if truths is None else {side: _scores(ones, arrays, truths) for (side, ones), arrays in both},
    )


def _count_parts(one: Lesson | Result) -> int:
    """Return the number of its objects; without any of its own, of connected parts of its classes."""
    if one.objects is not None:
        return len(np.unique(one.objects[one.objects > 0]))
    return len(np.unique(connected_parts(one.labels.astype(np.int64))))


def _scores(ones: Sequence[Lesson | Result], labels: Mapping[str, Labels], truths: Annotations) -> dict[str, float]:
    """Return the scores of one side: of its classes, and of its objects where truth has objects too."""
    found = _class_scores(labels, truths)
    objects = {name: one.objects for name, one in zip(labels, ones, strict=True) if one.objects is not None}
    if truths.objects and objects:
        frames = _frames(objects, truths, numbered=True)
        single = Evaluation({name: instance_kind(own, truth, ignore=-1) for name, own, truth in frames}, [])
        found |= single.summary()
    return found


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


def _frames(
    arrays: Mapping[str, Labels], truths: Annotations, numbered: bool = False
) -> Iterator[tuple[str, Labels, Labels]]:
    """Yield the labels and the classes of each frame that has truth, -1 = none; of objects, 1 = within one, or their numbers."""
    for name, labels in arrays.items():
        frames = truths.arrays.get(name, [])
        if truths.objects and not numbered:
            frames = [np.minimum(truth, 1) for truth in frames]
        parts = [labels] if labels.ndim == (frames[0].ndim if frames else 0) else list(labels)
        for number, truth in enumerate(frames):
            if (truth >= 0).any():
                yield f"{name} {number}" if len(frames) > 1 else name, parts[number], truth
