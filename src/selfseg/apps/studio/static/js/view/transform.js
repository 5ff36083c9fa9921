// Where the picture lies in a pane: the pixel in the middle, and screen pixels for a pixel of the picture.

export class Transform {
  constructor() {
    this.x = 0;
    this.y = 0;
    this.zoom = 1;
    this.fitted = false;
  }

  // `plane` is { width, height, aspect }, where aspect is the height of a pixel over its width.
  fit(plane, width, height, margin = 18) {
    const room = Math.min((width - 2 * margin) / plane.width, (height - 2 * margin) / (plane.height * plane.aspect));
    this.zoom = Math.max(room, 1e-3);
    this.x = plane.width / 2;
    this.y = plane.height / 2;
    this.fitted = true;
  }

  toScreen(x, y, plane, width, height) {
    return [width / 2 + (x - this.x) * this.zoom, height / 2 + (y - this.y) * this.zoom * plane.aspect];
  }

  toPicture(left, top, plane, width, height) {
    return [this.x + (left - width / 2) / this.zoom, this.y + (top - height / 2) / (this.zoom * plane.aspect)];
  }

  zoomAt(factor, left, top, plane, width, height) {
    const [x, y] = this.toPicture(left, top, plane, width, height);
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.01), 80);
    const [newX, newY] = this.toPicture(left, top, plane, width, height);
    this.x += x - newX;
    this.y += y - newY;
    this.clamp(plane);
    this.fitted = false;
  }

  move(right, down, plane) {
    this.x -= right / this.zoom;
    this.y -= down / (this.zoom * plane.aspect);
    this.clamp(plane);
    this.fitted = false;
  }

  clamp(plane) {
    this.x = Math.min(Math.max(this.x, 0), plane.width);
    this.y = Math.min(Math.max(this.y, 0), plane.height);
  }
}
