"""`selfseg look`: quick segmentations of a few images side by side, to choose a method by eye."""

import shlex
import sys

from selfseg.apps.cli.app import Inputs, Out, Report, app, exit_code, reporter


@app.command
def look(inputs: Inputs, /, *, out: Out, axes: str | None = None, seed: int = 0, report: Report = None) -> int:
    """Show quick segmentations of up to three of the images side by side: OUT/look.html, with the command of each.

    Parameters
    ----------
    axes
        Axes of the inputs, such as YXC or TYX, where files lack them or name them wrongly.
    seed
        Seed of every random choice.
    """
    from selfseg.learning.look import choose_views, look, suggest, write_look
    from selfseg.read import find_inputs

    bar = reporter(report)
    views, failures = choose_views(find_inputs(inputs), axes)
    for view in views:
        bar.say(f"{view.image.name}{f': {view.part}' if view.part else ''}")
    words = " ".join(map(shlex.quote, inputs)) + (f" --axes {axes}" if axes else "")
    tiles = []
    for number, tile in enumerate(look(views, bar, seed), 1):
        tiles.append(tile)
        write_look(out, views, tiles, words, failures)  # the page grows with each tile
        bar.say(f"{number} {tile.candidate.title}: {tile.error or tile.facts}  ({tile.candidate.arguments})")
    tiles = suggest(tiles)
    write_look(out, views, tiles, words, failures)
    chosen = next((tile for tile in tiles if tile.suggested), None)
    if chosen is not None:
        bar.say(f"suggested: {chosen.candidate.title}, {chosen.suggested}")
    sys.stdout.write(f"{out / 'look.html'}: choose the picture that comes nearest, and run its command\n")
    return exit_code(failures, bar)
