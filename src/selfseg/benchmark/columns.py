"""The columns of the tables, by task: which score, under which name, and whether larger is better."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column."""

    key: str
    """Part and score: ``one.covering``, ``connected.covering``, ``ods.covering``, ``oracle.dice``."""
    head: str
    """Heading."""
    meaning: str
    """What it is, in a few words."""
    sign: int = 1
    """1 = larger is better, -1 = smaller is better, 0 = neither."""
    digits: int = 3
    """Digits after the point."""

    @property
    def is_oracle(self) -> bool:
        """Whether it chooses by the truth."""
        return self.key.split(".")[0] in ("ods", "ois", "oracle")

    @property
    def heading(self) -> str:
        """The heading, oracles marked."""
        return f"{self.head}*" if self.is_oracle else self.head


ONE_OUTPUT = "one output, no choice by labels"

PARTITION = (
    Column("one.covering", "covering", f"{ONE_OUTPUT}: share of the truth covered by the best segments"),
    Column("one.probabilistic_rand_index", "PRI", f"{ONE_OUTPUT}: probabilistic Rand index"),
    Column("one.variation_of_information", "VI", f"{ONE_OUTPUT}: variation of information, bits", -1),
    Column("connected.covering", "covering, cut", "one output, classes cut into connected components"),
    Column("connected.probabilistic_rand_index", "PRI, cut", "the same: probabilistic Rand index"),
    Column("connected.variation_of_information", "VI, cut", "the same: variation of information, bits", -1),
    Column("one.boundary_f", "boundary F", f"{ONE_OUTPUT}: boundary F, one-to-one within .0075 of the diagonal"),
    Column("one.best_overlap_miou", "Kim mIoU", "Kim et al. 2020, all annotators; rewards oversegmentation"),
    Column("ods.covering", "cov. ODS", "ORACLE: best scale for the dataset"),
    Column("ois.covering", "cov. OIS", "ORACLE: best scale for each image"),
    Column("ods.rand", "PRI ODS", "ORACLE: best scale for the dataset"),
    Column("ois.rand", "PRI OIS", "ORACLE: best scale for each image"),
    Column("ods.variation", "VI ODS", "ORACLE: best scale for the dataset, bits", -1),
    Column("ois.variation", "VI OIS", "ORACLE: best scale for each image, bits", -1),
)

CURVE = (
    Column("ods.boundary", "F ODS", "ORACLE: boundary F at the best scale for the dataset"),
    Column("ois.boundary", "F OIS", "ORACLE: boundary F at the best scale for each image"),
)

INSTANCES = (
    Column("one.dice", "Dice", "foreground by a rule without labels (all but the largest class), pooled over pixels"),
    Column("one.mean_dice", "Dice, mean", "the same, mean over images"),
    Column("one.iou", "IoU", "the same foreground, pooled over pixels"),
    Column("one.ap_50", "AP .5", "instances (connected foreground): TP / (TP + FP + FN) at IoU above .5, pooled"),
    Column("one.mean_ap", "AP mean", "mean over IoU .5 to .9 and over images"),
    Column("one.f1_50", "F1 .5", "instances, pooled"),
    Column("one.panoptic_quality", "PQ", "panoptic quality, pooled"),
    Column("oracle.mean_dice", "Dice, oracle", "ORACLE: the union of classes that is best by the truth of each image"),
)

MEMBRANES = (
    Column("one.v_rand", "V_rand", "cells = the largest class; foreground-restricted, borders thinned"),
    Column("one.v_info", "V_info", "the same, information"),
    Column("one.iou", "cell IoU", "pooled over pixels; all cell scores .78 of it"),
    Column("one.accuracy", "accuracy", "share of pixels right"),
    Column(
        "oracle.v_rand", "V_rand, oracle", "ORACLE: the union of classes with the best mean IoU of cells and membranes"
    ),
    Column("oracle.iou", "IoU, oracle", "ORACLE: the same"),
)

LESIONS = (
    Column("one.mean_dice", "Dice", "lesion = the brightest class; mean over volumes"),
    Column("one.lesion_f1", "lesion F1", "by lesion"),
    Column("one.lesion_precision", "precision", "by lesion"),
    Column("one.lesion_recall", "recall", "by lesion"),
    Column("oracle.mean_dice", "Dice, oracle", "ORACLE: the union of classes that is best by the truth of each volume"),
)

WITHOUT_TRUTH = (
    Column("one.boundary_edge_agreement", "edges", "agreement of boundaries with edges"),
    Column("one.borsotti_q", "Borsotti Q", "small is good", -1, 4),
    Column("one.zhang_entropy", "Zhang E", "entropy criterion, small is good", -1),
)

COSTS = (
    Column("n_labels", "labels", "labels in the output, mean", 0, 1),
    Column("seconds", "s", "median seconds an image, learning included where a model is learned an image", -1, 2),
    Column("peak_memory", "MiB", "largest resident memory of the process, libraries included", -1, 0),
)

BY_TASK = {
    "partition": PARTITION,
    "instances": INSTANCES,
    "foreground": MEMBRANES,
    "lesion": LESIONS,
    "none": WITHOUT_TRUTH,
}


def columns_of(task: str, curve: bool = False) -> tuple[Column, ...]:
    """Return the columns of a task's table, costs last."""
    return (*BY_TASK[task], *(CURVE if curve and task == "partition" else ()), *COSTS)
