// The merge tree on the client: from leaves to regions, to labels, to colours. Plain functions over typed arrays.

// Node of the region that each node belongs to when every merge of altitude <= level is done. Parents come after children.
export function cut(parents, altitudes, level) {
  const top = new Int32Array(parents.length);
  for (let node = parents.length - 1; node >= 0; node--) {
    const parent = parents[node];
    top[node] = parent !== node && altitudes[parent] <= level ? top[parent] : node;
  }
  return top;
}

// Label of each leaf: its class, or at a level of 0 or more that of most pixels of its region; ties go to the smaller id.
// `ignored` classes count as 0. The same sums, in the same order of ids, as `selfseg.refine.edits.Edits.label_leaves`.
export function labelLeaves(tree, classes, ignored, level) {
  const count = classes.length;
  const labels = new Uint16Array(count);
  for (let leaf = 0; leaf < count; leaf++) labels[leaf] = ignored.has(classes[leaf]) ? 0 : classes[leaf];
  const top = level < 0 ? null : cut(tree.parents, tree.altitudes, level);
  const { dense, regions } = number(top, count);
  if (level < 0) return { labels, regions: dense, count: regions };
  const ids = [...new Set(labels)].sort((a, b) => a - b);
  const place = new Map(ids.map((id, i) => [id, i]));
  const pixels = new Float64Array(regions * ids.length);
  for (let leaf = 0; leaf < count; leaf++) {
    pixels[dense[leaf] * ids.length + place.get(labels[leaf])] += tree.sizes[leaf];
  }
  const chosen = new Uint16Array(regions);
  for (let region = 0; region < regions; region++) {
    let best = 0;
    for (let i = 1; i < ids.length; i++) {
      if (pixels[region * ids.length + i] > pixels[region * ids.length + best]) best = i;
    }
    chosen[region] = ids[best];
  }
  for (let leaf = 0; leaf < count; leaf++) labels[leaf] = chosen[dense[leaf]];
  return { labels, regions: dense, count: regions };
}

// Number the regions of the leaves 0, 1, 2, ... by their first leaf.
function number(top, count) {
  const dense = new Int32Array(count);
  if (top === null) {
    for (let leaf = 0; leaf < count; leaf++) dense[leaf] = leaf;
    return { dense, regions: count };
  }
  const known = new Int32Array(top.length).fill(-1);
  let regions = 0;
  for (let leaf = 0; leaf < count; leaf++) {
    if (known[top[leaf]] < 0) known[top[leaf]] = regions++;
    dense[leaf] = known[top[leaf]];
  }
  return { dense, regions };
}

// Altitudes of the merges ascend, so levels and numbers of regions turn into each other by looking once.
export function regionsAt(tree, level) {
  const leaves = tree.leaves;
  let low = leaves;
  let high = tree.altitudes.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tree.altitudes[middle] <= level) low = middle + 1;
    else high = middle;
  }
  return leaves - (low - leaves);
}

export function levelFor(tree, regions) {
  const merges = tree.leaves - Math.max(1, Math.min(tree.leaves, Math.round(regions)));
  return merges === 0 ? -1 : tree.altitudes[tree.leaves + merges - 1];
}

// Slider: 0 = as learned, 1 = one region; between, the number of regions falls by a constant factor.
export const positionOf = (tree, level) =>
  level < 0 || tree.leaves < 2 ? 0 : 1 - Math.log(regionsAt(tree, level)) / Math.log(tree.leaves);
export const levelAt = (tree, position) => (position <= 0 ? -1 : levelFor(tree, tree.leaves ** (1 - position)));

// A colour for a region that nothing else names: hues spread by the golden ratio.
export function regionColour(region) {
  const hue = (region * 0.61803398875) % 1;
  const light = 0.45 + 0.3 * ((region * 0.7548776662) % 1);
  const chroma = 0.55 * (1 - Math.abs(2 * light - 1));
  const channel = (shift) => {
    const k = (shift + hue * 12) % 12;
    return Math.round(255 * (light - chroma * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}
