// Finished tiles: the picture with all its layers, drawn once at the tile's own size. While the hand moves the picture they
// are laid down like stamps, which costs a small part of drawing every layer of every pixel anew.

const MOST_KEPT = 72;

export class Baked {
  constructor(painter) {
    this.painter = painter;
    this.kept = new Map(); // key of the image's tile -> { texture, look, width, height }
  }

  // The finished tile, if there is one that looks as the pane does now.
  get(key, look) {
    const tile = this.kept.get(key);
    return tile?.look === look ? tile : null;
  }

  // Draw a tile by `paint` into a texture of its own.
  bake(key, look, width, height, paint) {
    const old = this.kept.get(key);
    const texture = this.painter.target(old?.texture ?? null, width, height);
    paint();
    this.painter.release();
    this.kept.delete(key);
    this.kept.set(key, { texture, look });
    for (const [oldest, tile] of this.kept) {
      if (this.kept.size <= MOST_KEPT) break;
      this.painter.drop(tile.texture);
      this.kept.delete(oldest);
    }
  }
}
