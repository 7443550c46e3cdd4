// The lists as they stand on the page. In: a shopper's record. Out: lists, redrawn; what came into view.

import { renderCart } from "./cart.js";
import { at } from "./dom.js";
import { arrange } from "./lists.js";
import { here, items } from "./shop.js";
import { Tiles } from "./tiles.js";

export const tiles = new Tiles(items);

const LISTS = {
  "list-home": [() => here.home, tiles.tile(() => here.home, true)],
  "list-cart": [() => "cart", tiles.tile(() => "cart", false)],
  "list-coupons": [() => "coupons", tiles.card(() => "coupons", "use", "Use it")],
  "list-ads": [() => "ads", tiles.card(() => "ads", "visit", "Visit")],
  "list-content": [() => "content", tiles.card(() => "content", "read", "Read")],
  "list-shops": [() => "shops", tiles.card(() => "shops", "visit", "Visit")],
  "list-mail": [() => "mail", tiles.card(() => "mail", "open", "")],
};

function listOf(record, placement) {
  const lists = record?.lists ?? {};
  return lists[placement] ?? (placement === here.home ? lists.home : null);
}

export function linesOf(record, placement) {
  return listOf(record, placement)?.items ?? [];
}

export function draw(id, lines, [fill, freshen], options) {
  const most = Math.max(...lines.map((line) => line.score), 0);
  return arrange(at(id), lines, fill, (line, li) => freshen(line, li, most), options);
}

/** Draw all that the shopper sees; answers how many of the home list's lines are new. */
export function render(options) {
  let fresh = 0;
  for (const [id, [placement, how]] of Object.entries(LISTS)) {
    const lines = linesOf(here.me.record, placement());
    const changed = draw(id, lines, how, options);
    if (id === "list-home") fresh = changed;
    else if (id !== "list-cart") at(id).closest("section").hidden = lines.length === 0;
    watch(id, placement(), listOf(here.me.record, placement())?.name ?? "");
  }
  at("model-id").textContent = modelOf(here.me.record)?.slice(0, 12) ?? "…";
  renderCart();
  return fresh;
}

/** The bundle that made the home list: a record's, or an answer's where lists were asked for. */
function modelOf(record) {
  return record?.model ?? (record?.lists[here.home] ?? record?.lists.home)?.model;
}

export function renderOther(options) {
  draw("list-other", linesOf(here.other.record, here.home).slice(0, 6), tiles.slim(), options);
}

// Impressions: what was in view for half a second is told with the next click.
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    clearTimeout(target.timer);
    if (isIntersecting) target.timer = setTimeout(() => noticed(target.dataset), 500);
  }
}, { threshold: 0.6 });

function noticed({ id, placement, list }) {
  here.me.noticed(id, { placement, ...(list && { list_name: list }) });
}

/** Each line knows the newest list that it stood on, whose name goes with what is done on it. */
function watch(id, placement, list) {
  for (const li of at(id).querySelectorAll("li[data-id]")) {
    li.dataset.list = list;
    if (li.dataset.placement === placement) continue;
    li.dataset.placement = placement;
    watcher.observe(li);
  }
}
