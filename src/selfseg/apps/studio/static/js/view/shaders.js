// One tile in one pass: the picture through its display ranges, the colours of its leaves, and the lines between them.

export const VERTEX = `#version 300 es
uniform vec4 u_place;   // left, top, width, height of the tile, in clip space
uniform vec2 u_size;    // pixels of the tile
out vec2 v_pixel;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  v_pixel = corner * u_size;
  gl_Position = vec4(u_place.xy + corner * u_place.zw, 0.0, 1.0);
}`;

export const FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D u_image;
uniform usampler2D u_leaves;
uniform usampler2D u_groups;
uniform sampler2D u_colours;
uniform usampler2D u_probability;
uniform sampler2D u_preview;
uniform usampler2D u_objects;  // numbers of objects, a pixel more on each side, as the leaves
uniform usampler2D u_fixed;    // label + 1 of pixels that were corrected by hand, 0 elsewhere
uniform sampler2D u_inks;      // colour of each class
uniform usampler2D u_marked;   // for each object: 0 left out, 1 shown, 2 chosen
uniform vec2 u_size;
uniform vec4 u_preview_part;   // left, top, width, height of the tile in the preview, 0-1
uniform int u_channels;
uniform vec4 u_low;
uniform vec4 u_gain;
uniform float u_gamma;         // exponent of the brightness
uniform vec3 u_tints[4];
uniform int u_show;            // 0 picture alone, 1 colours of leaves, 2 probability, 3 preview
uniform float u_opacity;
uniform float u_lines;         // 1 = between groups
uniform float u_fine;          // 1 = between leaves
uniform float u_grey;
uniform float u_outlines;      // 1 = outlines of objects
uniform vec2 u_zoom;           // device pixels for a pixel of the tile, along x and y
uniform float u_swipe;         // device pixels from the left; what lies left of it shows the picture alone
in vec2 v_pixel;
out vec4 o_colour;

vec4 value(ivec2 at) {
  return vec4(texelFetch(u_image, clamp(at, ivec2(0), ivec2(u_size) - 1), 0));
}

vec4 values() {
  if (min(u_zoom.x, u_zoom.y) >= 1.0) return value(ivec2(floor(v_pixel)));
  vec2 p = v_pixel - 0.5;
  ivec2 q = ivec2(floor(p));
  vec2 f = p - floor(p);
  return mix(mix(value(q), value(q + ivec2(1, 0)), f.x), mix(value(q + ivec2(0, 1)), value(q + ivec2(1, 1)), f.x), f.y);
}

vec3 picture() {
  vec4 level = pow(clamp((values() - u_low) * u_gain, 0.0, 1.0), vec4(u_gamma));
  vec3 sum = vec3(0.0);
  for (int c = 0; c < 4; c++) if (c < u_channels) sum += level[c] * u_tints[c];
  return min(sum, 1.0);
}

uint leaf(ivec2 at) { return texelFetch(u_leaves, at + 1, 0).r; }

ivec2 entry(uint leaf) { return ivec2(int(leaf & 2047u), int(leaf >> 11)); }

uint fixed_at(ivec2 at) { return texelFetch(u_fixed, at + 1, 0).r; }

uint group(uint leaf) { return texelFetch(u_groups, entry(leaf), 0).r; }

// Device pixels from this point to the nearest line between its pixel and a neighbour: lines keep their width on the screen.
float gap(ivec2 at, uint here, bool fine) {
  uint fix = fixed_at(at);
  uint mine = fine ? here : fix > 0u ? fix - 1u : group(here);
  vec2 f = fract(v_pixel);
  float near = 1e6;
  bool small = min(u_zoom.x, u_zoom.y) < 1.5;
  for (int side = 0; side < (small ? 2 : 4); side++) {
    ivec2 step = side == 0 ? ivec2(1, 0) : side == 1 ? ivec2(0, 1) : side == 2 ? ivec2(-1, 0) : ivec2(0, -1);
    uint there = leaf(at + step);
    uint fixed_there = fixed_at(at + step);
    if (there == here && fix == fixed_there) continue;  // most pixels lie inside a leaf
    uint other = fine ? there : fixed_there > 0u ? fixed_there - 1u : group(there);
    float away = side == 0 ? (1.0 - f.x) * u_zoom.x : side == 1 ? (1.0 - f.y) * u_zoom.y : side == 2 ? f.x * u_zoom.x : f.y * u_zoom.y;
    if (other != mine) near = min(near, small ? 0.0 : away);
  }
  return near;
}

uint marked(ivec2 at) { return texelFetch(u_marked, entry(texelFetch(u_objects, at + 1, 0).r), 0).r; }

// Device pixels from this point to the nearest border of an object that is shown; 1e6 where none is near.
float rim(ivec2 at) {
  uint mine = texelFetch(u_objects, at + 1, 0).r;
  vec2 f = fract(v_pixel);
  float near = 1e6;
  for (int side = 0; side < 4; side++) {
    ivec2 step = side == 0 ? ivec2(1, 0) : side == 1 ? ivec2(0, 1) : side == 2 ? ivec2(-1, 0) : ivec2(0, -1);
    uint other = texelFetch(u_objects, at + step + 1, 0).r;
    if (other == mine || max(marked(at), marked(at + step)) == 0u) continue;
    float away = side == 0 ? (1.0 - f.x) * u_zoom.x : side == 1 ? (1.0 - f.y) * u_zoom.y : side == 2 ? f.x * u_zoom.x : f.y * u_zoom.y;
    near = min(near, min(u_zoom.x, u_zoom.y) < 1.5 ? (side < 2 ? 0.0 : 1e6) : away);
  }
  return near;
}

float line(float gap, float width) { return 1.0 - smoothstep(width - 0.5, width + 0.5, gap); }

vec3 heat(float p) {  // dark blue, teal, yellow: ordered in lightness, for all eyes
  return mix(mix(vec3(0.10, 0.07, 0.30), vec3(0.13, 0.57, 0.55), min(p * 2.0, 1.0)), vec3(0.99, 0.91, 0.15), max(p * 2.0 - 1.0, 0.0));
}

void main() {
  vec3 colour = picture();
  if ((u_show == 0 && u_outlines == 0.0) || gl_FragCoord.x < u_swipe) { o_colour = vec4(colour, 1.0); return; }
  ivec2 at = ivec2(floor(min(v_pixel, u_size - 0.001)));
  float light = dot(colour, vec3(0.2126, 0.7152, 0.0722));
  if (u_show == 3) {
    vec2 place = u_preview_part.xy + v_pixel / u_size * u_preview_part.zw;
    vec4 shown = texture(u_preview, place);
    if (any(lessThan(place, vec2(0.0))) || any(greaterThan(place, vec2(1.0)))) shown.a = 0.0;
    o_colour = vec4(mix(colour, shown.rgb, shown.a * u_opacity), 1.0);
    return;
  }
  uint here = u_show == 0 ? 0u : leaf(at);
  vec4 ink = texelFetch(u_colours, entry(here), 0);
  uint fix = u_show == 1 ? fixed_at(at) : 0u;
  if (fix > 0u) ink = texelFetch(u_inks, entry(fix - 1u), 0);
  float share = min(1.0, ink.a * 255.0 / 200.0 * u_opacity);
  if (u_show == 2) {
    float p = float(texelFetch(u_probability, at, 0).r) / 255.0;
    ink.rgb = heat(p);
    share = here == 0u ? 0.0 : max(u_opacity, 0.6);
  }
  colour = mix(colour, mix(colour, vec3(0.22 + 0.70 * light), 0.9), u_grey * step(0.001, share));
  colour = mix(colour, ink.rgb, share);
  vec3 pen = dot(colour, vec3(0.2126, 0.7152, 0.0722)) > 0.5 ? vec3(0.06) : vec3(1.0);
  if (u_fine > 0.0 && u_show > 0) colour = mix(colour, pen, 0.35 * line(gap(at, here, true), 0.5));
  if (u_lines > 0.0 && u_show > 0) {
    float near = gap(at, here, false);
    colour = mix(colour, vec3(0.05), 0.45 * line(near, 1.6));
    colour = mix(colour, vec3(1.0), 0.95 * line(near, 0.8));
  }
  if (u_outlines > 0.0) {
    uint mark = marked(at);
    if (mark == 2u) colour = mix(colour, vec3(1.0, 0.85, 0.1), 0.45);
    float near = rim(at);
    colour = mix(colour, vec3(0.02), 0.6 * line(near, 2.2));
    colour = mix(colour, mark == 2u ? vec3(1.0, 0.85, 0.1) : vec3(0.35, 1.0, 1.0), line(near, 1.2));
  }
  o_colour = vec4(colour, 1.0);
}`;

// A finished tile, as it is.
export const STAMP = `#version 300 es
precision highp float;
uniform sampler2D u_tile;
in vec2 v_pixel;
out vec4 o_colour;
void main() { o_colour = texture(u_tile, v_pixel); }`;
