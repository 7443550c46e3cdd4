// Codes, capitals, prices and times as this page shows them. The sentences that shops put beside a reason are those
// of `stream/words`, not these.

const BECAUSE = {
  view: "You looked at",
  click: "You clicked",
  add_to_cart: "In your cart:",
  like: "You like",
  purchase: "You bought",
  similar: "Similar to",
  bought_together: "Bought with",
};
const PLAIN = {
  popular: "Popular",
  pinned: "Item of the week",
  exploring: "Trying it out",
  trending: "Trending",
  new: "New here",
  boosted: "On offer",
  bid: "Sponsored",
};
const DID = {
  view: "looked at",
  click: "clicked",
  add_to_cart: "put into the cart",
  remove_from_cart: "took out of the cart",
  like: "likes",
  dislike: "dislikes",
  purchase: "bought",
  cancel: "cancelled",
};

const MODELS = {
  mf: "matrix factorization",
  decay: "fading interests",
  content: "factors and what items are said to be",
  glr: "gated linear recurrence",
  cooccurrence: "what stands together in visits",
  ensemble: "several models as one",
};

/** "LUNCH BAG  BLACK SKULL." -> "Lunch bag black skull" */
export function title(item) {
  const text = (item?.title || item?.item_id || "").replace(/\s+/g, " ").replace(/[.,\s]+$/, "");
  if (text !== text.toUpperCase()) return text;
  const low = text.toLowerCase();
  return low.charAt(0).toUpperCase() + low.slice(1);
}

export function reason(found, items) {
  const because = BECAUSE[found.code];
  if (because && found.item_id) return `${because} ${title(items.get(found.item_id) || { item_id: found.item_id })}`;
  return PLAIN[found.code] || found.code.replaceAll("_", " ");
}

export const model = (name) => (MODELS[name] ? `${name} (${MODELS[name]})` : name);
export const did = (type) => DID[type] || type.replaceAll("_", " ");
export const price = (item) => (item?.price == null ? "" : `£${item.price.toFixed(2)}`);
export const percent = (score) => (score >= 0.1 ? `${Math.round(score * 100)}%` : `${(score * 100).toFixed(1)}%`);
export const milliseconds = (ms) => (ms < 10 ? ms.toFixed(1) : Math.round(ms).toString());
export const when = (ms) => (ms == null ? "for ever" : new Date(ms).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }));
