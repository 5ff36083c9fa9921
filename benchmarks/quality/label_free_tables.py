"""Tables of the label-free study: what a criterion's choices are worth, against fixed levels, chance and the oracle."""

import numpy as np
from scipy.stats import rankdata

CRITERIA = {
    "silhouette": ("silhouette", 1),
    "calinski": ("Calinski-Harabasz", 1),
    "davies": ("Davies-Bouldin", -1),
    "stability": ("stability", 1),
    "borsotti": ("Borsotti's Q", -1),
    "liu_yang": ("Liu & Yang's F", -1),
    "entropy": ("Zhang's E", -1),
    "zeboudj": ("Zeboudj", 1),
    "agreement": ("boundary-edge agreement", 1),
    "mdl": ("description length", -1),
    "mdl_eighth": ("description length, data / 8", -1),
    "constant": ("reconstruction error, constant", -1),
    "plane": ("reconstruction error, plane", -1),
}
"""Key in the rows -> name, and 1 if it is good when large, -1 if when small."""

REPEATS = 2000
"""Bootstrap samples of photos."""


class Family:
    """All images and levels of one family, as arrays.

    Attributes
    ----------
    scores
        Name -> ``[I L]`` true score, good when large. The first is the one that counts.
    values
        Criterion -> ``[I L]``, good when large; -inf where it is undefined.
    regions
        ``[I L]``.
    """

    def __init__(self, rows: list[dict], main: str) -> None:
        images, levels = sorted({row["image"] for row in rows}), sorted({row["level"] for row in rows})
        by_place = {(row["image"], row["level"]): row for row in rows}
        grid = [[by_place[image, level] for level in levels] for image in images]
        names = sorted(rows[0]["scores"], key=lambda name: (name != main, name))
        self.levels = levels
        self.scores = {s: np.array([[row["scores"][s] for row in line] for line in grid]) for s in names}
        self.regions = np.array([[row["regions"] for row in line] for line in grid], float)
        known = [c for c in CRITERIA if c in rows[0]["criteria"]]
        values = {c: np.array([[row["criteria"][c] for row in line] for line in grid], float) for c in known}
        self.values = {c: np.where(np.isfinite(v), CRITERIA[c][1] * v, -np.inf) for c, v in values.items()}

    @property
    def truth(self) -> np.ndarray:
        """The score that counts: ``[I L]``."""
        return next(iter(self.scores.values()))

    def chosen(self, values: np.ndarray) -> np.ndarray:
        """Return the level at which each image's values are largest: ``[I]``; fewer regions win a tie."""
        return np.lexsort((self.regions, -values), axis=1)[:, 0]


def fixed_levels(truth: np.ndarray) -> np.ndarray:
    """Return the best one level of the *other* half of the images (even, odd): ``[I]``. No image chooses for itself."""
    half = np.arange(len(truth)) % 2
    best = [int(truth[half != side].mean(0).argmax()) for side in (0, 1)]
    return np.array(best)[half]


def criterion_of_other_half(family: Family) -> np.ndarray:
    """Return the levels chosen by the criterion that chose best on the other half of the images: ``[I]``."""
    choices = np.stack([family.chosen(values) for values in family.values.values()])  # [criteria I]
    at = np.arange(len(family.truth))
    worth = family.truth[at, choices]
    half = at % 2
    best = [int(worth[:, half != side].mean(1).argmax()) for side in (0, 1)]
    return choices[np.array(best)[half], at]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over images of the rank correlation over levels; where one side is constant it counts as 0."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        ranks = rankdata(x), rankdata(y)
        if np.ptp(ranks[0]) and np.ptp(ranks[1]):
            total += float(np.corrcoef(*ranks)[0, 1])
    return total / len(a)


def paired_error(difference: np.ndarray, seed: int = 0) -> float:
    """Bootstrap standard error over images of the mean of paired differences ``[I]``."""
    rng = np.random.default_rng(seed)
    return float(difference[rng.integers(0, len(difference), (REPEATS, len(difference)))].mean(1).std())


def line(family: Family, choice: np.ndarray, values: np.ndarray | None) -> list[float]:
    """Return the figures of one criterion, in the order of `head`."""
    truth, at = family.truth, np.arange(len(choice))
    score, random, oracle = truth[at, choice], truth.mean(1), truth.max(1)
    fixed, best = truth[at, fixed_levels(truth)], float(truth.mean(0).max())
    rho = [spearman(values, s) if values is not None else np.nan for s in family.scores.values()]
    gain = (score - random).mean() / (oracle - random).mean()
    against = (score - fixed).mean(), paired_error(score - fixed), score.mean() - best
    return [score.mean(), gain, *against, *rho, family.regions[at, choice].mean()]


def head(family: Family) -> list[str]:
    """Return the names of the columns.

    The mean true score of the chosen; the share of the way from a random level to the oracle; the difference to the best
    fixed level of the other half of the images, its standard error, and the same difference to the best one in-sample;
    the mean rank correlation with each true score over the levels of an image; the mean number of regions chosen.
    """
    scores = list(family.scores)
    rho = [f"rho {name}" for name in scores]
    return ["criterion", scores[0], "gain", "less fixed", "s.e.", "less in-sample", *rho, "regions"]


def figures(family: Family) -> dict[str, list[float]]:
    """Return the lines of one table: criteria, best first, then controls."""
    lines = {CRITERIA[c][0]: line(family, family.chosen(v), v) for c, v in family.values.items()}
    lines = dict(sorted(lines.items(), key=lambda item: -item[1][0]))
    truth, n = family.truth, len(family.truth)
    lines["*criterion best on the other half*"] = line(family, criterion_of_other_half(family), None)
    if np.ptp(family.regions):
        lines["*fewest regions*"] = line(family, family.chosen(-family.regions), -family.regions)
        lines["*most regions*"] = line(family, family.chosen(family.regions), family.regions)
    lines["*best fixed, other half*"] = line(family, fixed_levels(truth), None)
    lines["*best fixed, in-sample*"] = line(family, np.full(n, truth.mean(0).argmax()), None)
    lines["*oracle*"] = line(family, truth.argmax(1), truth)
    chance = [truth.mean(), 0.0, (truth.mean(1) - truth[np.arange(n), fixed_levels(truth)]).mean()]
    lines["*random level*"] = [
        *chance,
        np.nan,
        truth.mean() - truth.mean(0).max(),
        *[np.nan] * len(family.scores),
        family.regions.mean(),
    ]
    return lines


def cell(column: str, value: float) -> str:
    """Return a figure as it stands in the table: three digits, no leading zero; two for shares and correlations."""
    if np.isnan(value):
        return ""
    if column == "regions":
        return f"{value:.1f}"
    digits = 2 if column == "gain" or column.startswith("rho") else 3
    text = f"{value:+.{digits}f}" if column.startswith("less") else f"{value:.{digits}f}"
    return text.replace("0.", ".", 1)


def tables(rows: list[dict], main: str) -> str:
    """Return one Markdown table a family."""
    parts = []
    for name in dict.fromkeys(row["family"] for row in rows):
        family = Family([row for row in rows if row["family"] == name], main)
        parts.append(f"\n{name}: {len(family.truth)} images, levels {family.levels}\n")
        names = head(family)
        parts += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        for criterion, values in figures(family).items():
            cells = [cell(column, value) for column, value in zip(names[1:], values, strict=True)]
            parts.append(f"| {criterion} | " + " | ".join(cells) + " |")
    return "\n".join(parts)
