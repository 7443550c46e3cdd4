// What the page knows: the catalogue, from its start on, and who is here.

import { get, Shopper } from "./api.js";

export const shop = await get("/demo/catalogue");
export const items = new Map(shop.items.map((item) => [item.item_id, item]));
export const STRENGTHS = [...document.querySelectorAll("#explore input")].map((input) => input.value);

/**
 * Two shoppers, the placement that the front page shows, and what the worker serves: { model, bundle_id, ready }, null
 * until it is known.
 */
export const here = {
  me: new Shopper(remembered("freshet-shopper", () => guest("you"))),
  other: new Shopper(guest("friend")),
  home: "home",
  serving: null,
};

export const known = (id) => items.get(id) ?? { item_id: id };

function guest(name) {
  return `${name}-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
}

function remembered(key, create) {
  const value = sessionStorage.getItem(key) || create();
  sessionStorage.setItem(key, value);
  return value;
}

/** Who shops, also once the page is loaded again. */
export const remember = (shopper) => sessionStorage.setItem("freshet-shopper", shopper.userId);
