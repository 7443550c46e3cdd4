// The panel's charts. In: what the worker's metrics say, once a second. Out: SVG and words for it.

import { element } from "./pictures.js";

const KEEP_S = 60;

/** Counters once a second, and what they say of the last minute. */
export class Recent {
  constructor() {
    this.samples = []; // [seconds, stats]
  }

  put(stats) {
    const now = performance.now() / 1000;
    const before = this.samples.at(-1)?.[1];
    // Another worker counts from 0.
    if (before && (stats.events < before.events || stats.serving.bundle_id !== before.serving.bundle_id)) this.samples = [];
    this.samples.push([now, stats]);
    while (this.samples.length > 2 && now - this.samples[0][0] > KEEP_S) this.samples.shift();
  }

  /** Events a second between samples, oldest first. */
  rates() {
    return this.samples.slice(1).map(([at, stats], i) => {
      const [before, older] = this.samples[i];
      return Math.max(0, (stats.events - older.events) / Math.max(at - before, 0.001));
    });
  }

  /** Events of the minute by bucket: [[upper bound in ms, count]], the last bound Infinity. */
  latencies() {
    if (!this.samples.length) return [];
    const [first, last] = [this.samples[0][1].latency, this.samples.at(-1)[1].latency];
    let [below, belowFirst] = [0, 0];
    return last.map(([bound, count], i) => {
      const oldest = first[i]?.[1] ?? 0;
      const found = count - below - (oldest - belowFirst);
      [below, belowFirst] = [count, oldest];
      return [bound == null ? Infinity : bound * 1000, found];
    });
  }
}

/** Within which bound a share of the counts lies, interpolated; null where nothing was counted. */
export function quantile(buckets, share) {
  const total = buckets.reduce((sum, [, count]) => sum + count, 0);
  if (total === 0) return null;
  let [left, lower] = [share * total, 0];
  for (const [bound, count] of buckets) {
    if (count > 0 && left <= count) return Number.isFinite(bound) ? lower + ((bound - lower) * left) / count : lower;
    left -= count;
    lower = bound;
  }
  return lower;
}

export function drawLatencies(svg, buckets) {
  const shown = buckets.filter(([bound]) => bound >= 2 && bound <= 500);
  const [first] = shown[0] ?? [0];
  const early = buckets.filter(([bound]) => bound < first).reduce((sum, [, count]) => sum + count, 0);
  const bars = shown.map(([bound, count], i) => [bound, count + (i === 0 ? early : 0)]);
  const most = Math.max(1, ...bars.map(([, count]) => count));
  const width = 300 / Math.max(bars.length, 1);
  svg.replaceChildren(
    ...bars.flatMap(([bound, count], i) => {
      const high = count ? Math.max(2, (62 * count) / most) : 1;
      const bar = element("rect", { x: i * width + 1, y: 66 - high, width: width - 2, height: high, rx: 1.5, class: bound <= 50 ? "good" : "slow" });
      if (i % 3 !== 0) return [bar];
      const label = element("text", { x: i * width + width / 2, y: 80, "text-anchor": "middle" });
      label.textContent = String(Math.round(bound));
      return [bar, label];
    }),
  );
}

export function drawRates(svg, rates) {
  const most = Math.max(2, ...rates);
  const step = 300 / (KEEP_S - 1);
  const points = rates.slice(-KEEP_S).map((rate, i, all) => [300 - (all.length - 1 - i) * step, 42 - (38 * rate) / most]);
  if (points.length < 2) return svg.replaceChildren();
  const path = points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  const area = `${path}L300 43L${points[0][0].toFixed(1)} 43Z`;
  svg.replaceChildren(element("path", { d: area, class: "area" }), element("path", { d: path, class: "line" }));
}
