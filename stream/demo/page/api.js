// The gateway's routes, as the page uses them. Knows nothing of the document.

const PATIENCE_MS = 30000; // the gateway's longest: a worker that starts anew answers what was asked meanwhile
const json = { "Content-Type": "application/json" };

async function call(path, options) {
  const response = await fetch(path, options);
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.message || `the gateway answered ${response.status}`);
  return body;
}

export const post = (path, value) => call(path, { method: "POST", headers: json, body: JSON.stringify(value) });
export const get = (path) => call(path);

/** One user: what they do, what they ask, their lists as they come. */
export class Shopper {
  constructor(userId) {
    this.userId = userId;
    this.path = `/v1/users/${encodeURIComponent(userId)}`;
    this.cart = new Map(); // item_id -> times
    this.record = null; // the newest lists
    this.seen = new Map(); // item_id -> { placement, list_name }: came into view, not yet told
    this.lastMs = 0;
    this.sent = []; // [event_time_ms, performance.now()] of events whose list has not come
    this.source = null;
  }

  /** Follow the lists: `onLists(record, tookMs | null)`, `onForgotten()`. */
  follow(onLists, onForgotten) {
    this.source = new EventSource(`${this.path}/stream`);
    this.source.addEventListener("lists", (event) => {
      const now = performance.now();
      this.record = JSON.parse(event.data);
      onLists(this.record, this.took(this.record.cause.event_time_ms, now));
    });
    this.source.addEventListener("forgotten", () => onForgotten());
  }

  leave() {
    this.source?.close();
    this.source = null;
  }

  /** How long the newest event took that a list reflects; null for somebody else's. */
  took(causeMs, now) {
    const done = this.sent.filter(([timeMs]) => timeMs <= causeMs);
    this.sent = this.sent.filter(([timeMs]) => timeMs > causeMs);
    return done.length ? now - done[done.length - 1][1] : null;
  }

  /** What came into view is told with the next thing that is done, so that no list comes of it alone. */
  noticed(itemId, on) {
    if (!this.seen.has(itemId)) this.seen.set(itemId, on);
  }

  /**
   * Send what was done to one item or more; resolves once the brokers have it. `on`: { placement, list_name } of the
   * list that it was done on.
   */
  async did(type, items, on) {
    const bought = type === "purchase";
    const events = bought ? [] : this.impressions();
    for (const item of items) {
      const price = bought && item.price != null ? { quantity: 1, unit_price: item.price, currency: "GBP" } : {};
      events.push({ ...this.event(type, item.item_id, on), ...price });
    }
    this.sent.push([this.lastMs, performance.now()]);
    await post(bought ? "/v1/purchases" : "/v1/clicks", events);
  }

  impressions() {
    const told = [...this.seen].map(([itemId, on]) => this.event("impression", itemId, on));
    this.seen.clear();
    return told;
  }

  event(type, itemId, on) {
    this.lastMs = Math.max(Date.now(), this.lastMs + 1);
    return { event_id: `page-${this.lastMs}`, user_id: this.userId, item_id: itemId, type, event_time_ms: this.lastMs, ...on };
  }

  ask(type, fields = {}) {
    return post("/v1/requests", { user_id: this.userId, type, deadline_ms: Date.now() + PATIENCE_MS, ...fields });
  }

  forget() {
    return call(this.path, { method: "DELETE" });
  }
}
