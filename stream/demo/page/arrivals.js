// What comes back: lists as they arrive, or as they are asked for where nothing was done yet.

import { recall, renderCart } from "./cart.js";
import { at, complain, say } from "./dom.js";
import { milliseconds, title } from "./formatting.js";
import { tellInterest, tellOther } from "./insight.js";
import { linesOf, render, renderOther } from "./shelves.js";
import { here, items, shop, STRENGTHS } from "./shop.js";

/** Whether lists come of another model than the one that serves now. */
function outdated(record) {
  return here.serving?.ready && record.model !== undefined && record.model !== here.serving.bundle_id;
}

/** Follow a shopper's lists. */
export function welcome(shopper) {
  shopper.follow(
    (record, tookMs) => {
      if (outdated(record)) greet(shopper).catch(complain);
      else if (shopper === here.me) arrived(record, tookMs);
      else {
        renderOther();
        tellOther().catch(() => {});
      }
    },
    () => {
      shopper.record = null;
      shopper.cart.clear();
      greet(shopper).catch(complain);
    },
  );
}

function arrived(record, tookMs) {
  const fresh = render();
  if (tookMs !== null) {
    at("pulse-ms").textContent = milliseconds(tookMs);
    at("pulse").dataset.state = "beat";
    setTimeout(() => { at("pulse").dataset.state = "still"; }, 500);
    const first = linesOf(record, here.home)[0];
    const top = first ? ` First: ${title(items.get(first.item_id))}.` : "";
    say(`Lists rearranged after ${milliseconds(tookMs)} milliseconds, ${fresh} new for you.${top}`);
  }
  tellInterest().catch(() => {});
}

/**
 * Lists for somebody of whom nothing is known, or whose lists another model made: asked for, since only events make
 * lists by themselves. The home list comes first; of a second shopper no others are shown.
 */
export async function greet(shopper) {
  const lists = {};
  const show = () => {
    const { record } = shopper;
    if (record !== null && !record.asked && !outdated(record)) return false; // an event was sooner
    shopper.record = { lists, asked: true };
    if (shopper === here.me) render();
    else renderOther();
    return true;
  };
  const ask = async (placement) => { lists[placement] = await shopper.ask("list", { placement }); };
  await ask(shop.placements.includes(here.home) ? here.home : shop.placements[0]);
  if (!show()) return;
  const shown = shopper === here.me ? shop.placements : shop.placements.filter((placement) => STRENGTHS.includes(placement));
  await Promise.all(shown.filter((placement) => !(placement in lists)).map(ask));
  if (show() && shopper === here.me) await tellInterest();
}

export async function enter(shopper) {
  welcome(shopper);
  await recall(shopper);
  await new Promise((resume) => setTimeout(resume, 150)); // lists that are there come at once
  if (shopper.record === null || shopper.record.asked || outdated(shopper.record)) await greet(shopper);
  else if (shopper === here.me) renderCart();
}
