// Sources of a tile of a scene: the addresses at the server, and how their data become textures.

export const SHOW = { image: 0, classes: 1, regions: 1, probability: 2, confidence: 2 };

export function keysOf(axis, tile, { name, run, channels, layers, sources, frame, index, objects, corrected }) {
  const place = `axis=${axis}&frame=${frame}&index=${index}&level=${tile.level}&x=${tile.x}&y=${tile.y}`;
  const where = encodeURIComponent(name);
  return {
    image: `/tiles/image?name=${where}&channels=${channels}&${place}`,
    leaves: run && `/tiles/leaves?run=${run}&name=${where}&${place}`,
    objects: run && objects && `/tiles/objects?run=${run}&name=${where}&stamp=${objects.stamp}&${place}`,
    fixed: run && corrected && `/tiles/corrections?run=${run}&name=${where}&stamp=${corrected}&${place}`,
    probability: run && SHOW[layers.show] === 2 && `/tiles/probability?run=${run}&name=${where}&sources=${sources}&${place}`,
  };
}

export function jobsOf(painter, keys, { width, height }, { facts, channels }) {
  const wide = facts.bits === 16;
  const jobs = [
    job(painter, keys.image, (raw) => [wide ? new Uint16Array(raw) : new Uint8Array(raw), width, height, channels.length, wide ? "u16" : "u8"]),
  ];
  if (keys.objects) jobs.push(job(painter, keys.objects, (raw) => [new Uint32Array(raw), width + 2, height + 2, 1, "u32"]));
  if (keys.fixed) jobs.push(job(painter, keys.fixed, (raw) => [new Uint32Array(raw), width + 2, height + 2, 1, "u32"]));
  if (keys.leaves) jobs.push(job(painter, keys.leaves, (raw) => [new Uint32Array(raw), width + 2, height + 2, 1, "u32"]));
  if (keys.probability) jobs.push(job(painter, keys.probability, (raw) => [new Uint8Array(raw), width, height, 1, "u8"]));
  return jobs;
}

function job(painter, url, unpack) {
  const make = (raw) => {
    const [data, ...shape] = unpack(raw);
    return { data, texture: painter.integers(data, ...shape) };
  };
  return { key: url, url, make };
}
