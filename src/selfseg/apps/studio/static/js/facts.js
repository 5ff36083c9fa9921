// Facts of each picture from the server: size, channels, display ranges.

const known = new Map();

export function facts(name) {
  if (!known.has(name)) {
    const asked = fetch(`/api/picture?${new URLSearchParams({ name })}`).then(async (answer) => {
      const value = await answer.json();
      if (!answer.ok) throw new Error(value.error);
      return value;
    });
    asked.catch(() => known.delete(name));
    known.set(name, asked);
  }
  return known.get(name);
}
