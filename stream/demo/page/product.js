// A product's page, as a dialog. In: the item. Out: what goes beside it, and what its score owes to what was done.

import { at, complain, make } from "./dom.js";
import { did, percent, price, reason, title } from "./formatting.js";
import { picture } from "./pictures.js";
import { draw, tiles } from "./shelves.js";
import { here, items, known } from "./shop.js";

const BESIDE = tiles.tile(() => "product", false);
let shown = null;

export function openProduct(item) {
  shown = item;
  const dialog = at("product");
  at("product-picture").replaceChildren(picture(item));
  at("product-title").textContent = title(item);
  at("product-facts").textContent = [item.category, item.brand && title({ title: item.brand }), items.has(item.shop) && title(items.get(item.shop))].filter(Boolean).join(" · ");
  at("product-price").textContent = price(item);
  const button = (does, text, className) => tiles.button(does, item, () => "product", { text, class: className });
  at("product-buttons").replaceChildren(button("cart", "Add to cart", "strong"), button("buy", "Buy", ""), button("dislike", "Not for me", "quiet"));
  at("product-why").replaceChildren(make("li", { text: "…" }));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  at("product-title").focus();
  tell(item).catch(complain);
}

/** Close its page, if it is this item's. */
export function leaveProduct(item) {
  if (shown === item) at("product").close();
}

at("product").addEventListener("close", () => { shown = null; });

/** Asked for, not looked up in a list. */
async function tell(item) {
  const { me, home } = here;
  const about = { placement: "product", item_id: item.item_id };
  const [similar, together, why] = await Promise.all([
    me.ask("similar", about), me.ask("together", about), me.ask("explain", { placement: home, candidates: [item.item_id] }),
  ]);
  if (shown !== item) return;
  draw("list-similar", similar.items ?? [], BESIDE);
  draw("list-together", together.items ?? [], BESIDE);
  at("product-why").replaceChildren(...whyLines(why.items?.[0]));
}

function whyLines(line) {
  const speaks = (line?.because ?? []).filter((one) => Math.abs(one.share) > 1e-6).slice(0, 3);
  at("product-why-title").textContent = line ? `Why it scores ${percent(line.score)}` : "Why it is listed";
  if (!speaks.length) return [make("li", { text: line ? `${reason(line.reason, items)}: nothing that you did speaks for it yet` : "Nobody knows yet" })];
  return speaks.map((one) => {
    const what = one.item_id ? title(known(one.item_id)) : "something not sold any more";
    const part = Math.round((100 * one.share) / Math.max(line.score, 1e-9));
    return make("li", {}, make("strong", { text: `${part >= 0 ? "" : "−"}${Math.abs(part)}%` }), ` you ${did(one.type)} ${what}`);
  });
}
