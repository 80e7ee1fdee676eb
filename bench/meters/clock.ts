/** Smallest step of performance.now() that was seen, nanoseconds; null where it did not move. */
export function clockQuantumNs(): number | null {
  let smallest = Number.POSITIVE_INFINITY;
  let before = performance.now();
  const end = before + 10;
  for (let reads = 0; reads < 100_000 && before < end; reads++) {
    const now = performance.now();
    if (now > before) smallest = Math.min(smallest, now - before);
    before = now;
  }
  return Number.isFinite(smallest) ? Math.round(smallest * 1e6) : null;
}
