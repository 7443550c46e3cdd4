// The cart. In: what is put into it and taken out. Out: its rows; purchases.

import { at, complain, make } from "./dom.js";
import { price, title } from "./formatting.js";
import { arrange } from "./lists.js";
import { picture } from "./pictures.js";
import { here, items, known } from "./shop.js";

export function renderCart() {
  const { cart } = here.me;
  const lines = [...cart].map(([item_id, times]) => ({ item_id, times }));
  at("cart-count").textContent = [...cart.values()].reduce((sum, times) => sum + times, 0);
  at("cart-empty").hidden = lines.length > 0;
  at("buy-all").disabled = lines.length === 0;
  at("with-cart-title").textContent = lines.length ? "Goes with your cart" : "Small things, while the cart is empty";
  arrange(at("cart"), lines, fill, (line, li) => { li.querySelector(".times").textContent = line.times > 1 ? `${line.times} ×` : ""; });
}

function fill(line, li) {
  const item = known(line.item_id);
  li.append(make("span", { class: "picture" }, picture(item)), make("span", { class: "name", text: title(item) }),
    make("span", { class: "times" }), make("span", { class: "price", text: price(item) }),
    make("button", { type: "button", class: "quiet", "data-do": "remove", "aria-label": `Take ${title(item)} out of the cart`, text: "Remove",
      onclick: () => remove(item).catch(complain) }));
}

export function putIntoCart(item) {
  const { cart } = here.me;
  cart.set(item.item_id, (cart.get(item.item_id) ?? 0) + 1);
  renderCart();
}

export function takeOutOfCart(item) {
  here.me.cart.delete(item.item_id);
  renderCart();
}

async function remove(item) {
  takeOutOfCart(item);
  await here.me.did("remove_from_cart", [item], { placement: "cart" });
}

at("buy-all").addEventListener("click", () => {
  const bought = [...here.me.cart.keys()].map((id) => items.get(id)).filter(Boolean);
  here.me.cart.clear();
  renderCart();
  at("cart-title").closest("section").querySelector("button:not([disabled])")?.focus({ preventScroll: true });
  here.me.did("purchase", bought, { placement: "cart" }).catch(complain);
});

/** The cart as the state has it, so that a page that is loaded again shows what Freshet remembers. */
export async function recall(shopper) {
  const { state } = await shopper.ask("state");
  const settled = new Set();
  for (const { type, item_id: id } of state?.interactions ?? []) {
    if (!["add_to_cart", "remove_from_cart", "purchase"].includes(type) || !id || settled.has(id)) continue;
    settled.add(id);
    if (type === "add_to_cart" && items.has(id)) shopper.cart.set(id, 1);
  }
}
