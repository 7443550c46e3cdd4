// The engine's panel: what the worker counts, once a second, and simulated shoppers on and off.

import { get, post } from "./api.js";
import { drawLatencies, drawRates, quantile, Recent } from "./charts.js";
import { at, complain } from "./dom.js";
import { milliseconds, percent } from "./formatting.js";
import { served } from "./model.js";

const recent = new Recent();

export async function tellEngine() {
  const stats = await get("/demo/stats");
  recent.put(stats);
  const [rates, buckets] = [recent.rates(), recent.latencies()];
  const [median, p99] = [quantile(buckets, 0.5), quantile(buckets, 0.99)];
  at("rate").textContent = rates.length ? rates.at(-1).toFixed(rates.at(-1) < 10 ? 1 : 0) : "–";
  at("median").textContent = median === null ? "–" : `${milliseconds(median)} ms`;
  at("p99").textContent = p99 === null ? "–" : `${milliseconds(p99)} ms`;
  at("hits").textContent = stats.outcomes ? percent((stats.hits ?? 0) / stats.outcomes) : "–";
  drawLatencies(at("latency"), buckets);
  drawRates(at("throughput"), rates);
  at("latency").setAttribute("aria-label", median === null ? "No events in the last minute" : `Half of the last minute's events had their list within ${milliseconds(median)} milliseconds, 99 in 100 within ${milliseconds(p99)}`);
  at("throughput").setAttribute("aria-label", rates.length ? `${Math.round(rates.at(-1))} events a second now` : "No events yet");
  showTraffic(stats.traffic);
  served(stats.serving);
}

function showTraffic(on) {
  at("traffic").setAttribute("aria-pressed", String(on));
  at("traffic").textContent = `Simulated shoppers: ${on ? "on" : "off"}`;
}

at("traffic").addEventListener("click", async () => {
  const on = at("traffic").getAttribute("aria-pressed") !== "true";
  showTraffic(on);
  try {
    showTraffic((await post("/demo/traffic", { on })).traffic);
  } catch (error) {
    showTraffic(!on);
    complain(error);
  }
});
