// WebGL: the program, and textures of whole numbers.

import { FRAGMENT, STAMP, VERTEX } from "./shaders.js";

const FORMATS = {
  u8: [null, ["R8UI", "RED_INTEGER"], ["RG8UI", "RG_INTEGER"], ["RGB8UI", "RGB_INTEGER"], ["RGBA8UI", "RGBA_INTEGER"]],
  u16: [null, ["R16UI", "RED_INTEGER"], ["RG16UI", "RG_INTEGER"], ["RGB16UI", "RGB_INTEGER"], ["RGBA16UI", "RGBA_INTEGER"]],
  u32: [null, ["R32UI", "RED_INTEGER"]],
};
const TYPES = { u8: "UNSIGNED_BYTE", u16: "UNSIGNED_SHORT", u32: "UNSIGNED_INT" };

export class Painter {
  constructor(canvas) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, preserveDrawingBuffer: false });
    if (!gl) throw new Error("This browser has no WebGL 2, which the picture needs.");
    this.gl = gl;
    this.program = link(gl, FRAGMENT);
    this.stamping = link(gl, STAMP);
    this.stamps = ["u_place", "u_size"].map((name) => gl.getUniformLocation(this.stamping, name));
    this.buffer = gl.createFramebuffer();
    this.uniforms = new Map();
    gl.useProgram(this.program);
    gl.bindVertexArray(gl.createVertexArray());
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    ["u_image", "u_leaves", "u_groups", "u_colours", "u_probability", "u_preview", "u_objects", "", "u_marked", "u_fixed", "u_inks"].forEach((name, unit) => {
      if (name) gl.uniform1i(this.where(name), unit); // unit 7 is for what is being made
    });
    this.empty = this.integers(new Uint32Array(9), 3, 3, 1, "u32");
    this.clear = this.picture(null);
  }

  where(name) {
    if (!this.uniforms.has(name)) this.uniforms.set(name, this.gl.getUniformLocation(this.program, name));
    return this.uniforms.get(name);
  }

  set(kind, name, ...values) {
    this.gl[`uniform${kind}`](this.where(name), ...values);
  }

  bind(unit, texture) {
    this.gl.activeTexture(this.gl.TEXTURE0 + unit);
    this.gl.bindTexture(this.gl.TEXTURE_2D, texture);
  }

  integers(data, width, height, channels, kind, old = null) {
    const gl = this.gl;
    const texture = old ?? gl.createTexture();
    const [inside, outside] = FORMATS[kind][channels];
    this.bind(7, texture);
    if (!old) this.nearest();
    gl.texImage2D(gl.TEXTURE_2D, 0, gl[inside], width, height, 0, gl[outside], gl[TYPES[kind]], data);
    return texture;
  }

  colours(data, width, height, old = null) {
    const gl = this.gl;
    const texture = old ?? gl.createTexture();
    this.bind(7, texture);
    if (!old) this.nearest();
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, data);
    return texture;
  }

  picture(image) {
    if (image) {
      const gl = this.gl;
      const texture = gl.createTexture();
      this.bind(7, texture);
      this.nearest();
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, image);
      return texture;
    }
    return this.colours(new Uint8Array(4), 1, 1);
  }

  nearest() {
    const gl = this.gl;
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
    for (const wrap of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, wrap, gl.CLAMP_TO_EDGE);
  }

  // From here on draw into a texture of this many pixels, until `release`.
  target(old, width, height) {
    const gl = this.gl;
    const texture = this.colours(null, width, height, old);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
    gl.viewport(0, 0, width, height);
    return texture;
  }

  release() {
    const gl = this.gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, gl.canvas.width, gl.canvas.height);
  }

  // Lay finished tiles down: `placed` are [texture, left, top, width, height] in clip space.
  stamp(placed, smooth) {
    const gl = this.gl;
    gl.useProgram(this.stamping);
    for (const [texture, ...place] of placed) {
      this.bind(0, texture);
      const filter = smooth ? gl.LINEAR : gl.NEAREST;
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, filter);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, filter);
      gl.uniform4f(this.stamps[0], ...place);
      gl.uniform2f(this.stamps[1], 1, 1);
      this.quad();
    }
    gl.useProgram(this.program);
  }

  drop(texture) {
    this.gl.deleteTexture(texture);
  }

  begin(width, height) {
    const gl = this.gl;
    gl.viewport(0, 0, width, height);
    gl.clearColor(...this.ground(), 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
  }

  // The colour around the picture: that of the page.
  ground() {
    const words = getComputedStyle(this.gl.canvas).getPropertyValue("--ground").trim();
    return [1, 3, 5].map((at) => parseInt(words.slice(at, at + 2), 16) / 255);
  }

  quad() {
    this.gl.drawArrays(this.gl.TRIANGLE_STRIP, 0, 4);
  }
}

function link(gl, fragment) {
  const program = gl.createProgram();
  for (const [kind, source] of [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, fragment],
  ]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  return program;
}
