"""Labels as a DICOM segmentation (SEG) that refers to the slices it was made of, with highdicom (``selfseg[dicom]``)."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from selfseg.core.classes import class_colours
from selfseg.core.errors import InputError, UsageError
from selfseg.core.files import writing
from selfseg.core.image import spatial_axes
from selfseg.export.labels import LabelImage, one_line

MOST_SEGMENTS = 255
SERIES_NUMBER = 900
LONGEST_NAME = 64
"""Characters of a segment's label (DICOM's LO)."""


def write_dicom_seg(path: Path, content: LabelImage) -> None:
    """Write one binary segment for each class, named and coloured, in the frame of reference of the source.

    Patient and study are those of the source images; the series is new. All identifiers are made of the source's and of the
    labels, so that the same labels get the same ones.

    Raises
    ------
    InputError
        If the image did not come from DICOM, or lacks what a segmentation must refer to.
    UsageError
        If there are more than 255 classes or regions.
    """
    import highdicom
    from pydicom import dcmread

    source = content.image.source
    planes = content.image.meta.get("dicom")
    if not planes:
        fix = "use --write nifti or --write tiff for it"
        raise InputError(source, expected="a DICOM input for --write dicom-seg", got="another format", fix=fix)
    labels = content.labels if "Z" in spatial_axes(content.axes) or "T" in content.axes else content.labels[None]
    files = list(dict.fromkeys(file for file, _ in planes))
    if len(files) == 1:  # frames of one file are segmented in the order in which they stand there
        labels = labels[np.argsort([frame for _, frame in planes], kind="stable")]
    labels = np.ascontiguousarray(labels)
    try:
        datasets = [dcmread(file, stop_before_pixels=True) for file in files]
        uids = _uids(datasets, labels)
        segmentation = highdicom.seg.Segmentation(
            source_images=datasets,
            pixel_array=labels,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=_descriptions(content, int(labels.max(initial=0))),
            series_instance_uid=uids[0],
            series_number=SERIES_NUMBER,
            sop_instance_uid=uids[1],
            instance_number=1,
            manufacturer="selfseg",
            manufacturer_model_name="selfseg",
            software_versions=_version(),
            device_serial_number="none",
            series_description="selfseg labels",
            omit_empty_frames=bool(labels.any(axis=(1, 2)).all()),  # each plane must be there for one frame at least
        )
    except (AttributeError, ValueError, TypeError, KeyError, OSError) as error:
        got, fix = f"{type(error).__name__}: {error}"[:200], "use --write nifti for it"
        raise InputError(source, expected="DICOM images that can be referred to", got=got, fix=fix) from error
    with writing(path) as temporary:
        segmentation.save_as(temporary)


def _descriptions(content: LabelImage, largest: int) -> Sequence[Any]:
    """Return a description of every segment from 1 to the largest id."""
    from highdicom.color import CIELabColor
    from highdicom.content import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    classes = {} if content.table is None else {item.id: item for item in content.table.classes}
    n = max([largest, 1, *classes])
    if n > MOST_SEGMENTS:
        fix = "merge classes, or use --write nifti"
        raise UsageError("labels for DICOM-SEG", expected=f"at most {MOST_SEGMENTS} segments", got=str(n), fix=fix)
    algorithm = AlgorithmIdentificationSequence(
        name="selfseg", version=_version(), family=codes.cid7162.ArtificialIntelligence
    )
    palette = class_colours(n)
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=one_line(classes[number].name)[:LONGEST_NAME] if number in classes else f"region {number}",
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            display_color=CIELabColor.from_rgb(
                *(classes[number].rgba if number in classes else palette[number - 1])[:3]
            ),
        )
        for number in range(1, n + 1)
    ]


def _uids(datasets: Sequence[Any], labels: Any) -> tuple[str, str]:
    from pydicom.uid import generate_uid

    content = hashlib.sha256(labels.tobytes()).hexdigest()
    sources = [str(dataset.SOPInstanceUID) for dataset in datasets]
    return str(generate_uid(entropy_srcs=["series", *sources])), str(generate_uid(entropy_srcs=[content, *sources]))


def _version() -> str:
    try:
        return version("selfseg")
    except PackageNotFoundError:
        return "unknown"
