// What Freshet knows of a shopper: interest by category, and the last thing that was done. In: answers. Out: words, bars.

import { at, make } from "./dom.js";
import { did, percent, title } from "./formatting.js";
import { hueOf } from "./pictures.js";
import { here, known, shop } from "./shop.js";

/** Interest by category: what a coupon of each would score, whose vector is the category's. */
export async function tellInterest() {
  const shopper = here.me;
  const { items: ranked } = await shopper.ask("rank", { placement: "coupons", candidates: shop.categories.map((one) => one.coupon) });
  if (shopper !== here.me) return;
  const score = new Map(ranked.map((line) => [line.item_id, line.score]));
  const most = Math.max(...score.values(), 1e-9);
  const least = Math.min(...score.values());
  const list = at("interest");
  if (!list.children.length) list.append(...shop.categories.map(bar));
  shop.categories.forEach(({ coupon }, i) => {
    const value = score.get(coupon) ?? 0;
    const li = list.children[i];
    const flat = most - least < 1e-7;
    li.querySelector(".fill").style.width = `${flat ? 4 : Math.max(2, (100 * value) / most)}%`;
    li.querySelector(".number").textContent = percent(value);
    li.classList.toggle("top", !flat && value === most);
  });
}

function bar({ name }) {
  const fill = make("span", { class: "fill" });
  fill.style.backgroundColor = `hsl(${hueOf(name)} 48% 52%)`;
  return make("li", {}, make("span", { class: "name", text: name }), make("span", { class: "bar" }, fill), make("span", { class: "number" }));
}

/** The last thing that the second shopper did. */
export async function tellOther() {
  const shopper = here.other;
  const { state } = await shopper.ask("state");
  if (shopper !== here.other) return;
  const [last] = state?.interactions ?? [];
  const what = last?.item_id && title(known(last.item_id));
  at("other-did").textContent = last ? `${did(last.type)} ${what ?? ""}` : "Has done nothing yet.";
}
