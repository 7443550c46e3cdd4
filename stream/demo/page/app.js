// The page: two shoppers, their lists, and what is pressed. The other modules draw, speak and count.

import { get, post, Shopper } from "./api.js";
import { drawLatencies, drawRates, quantile, Recent } from "./charts.js";
import { arrange, make } from "./lists.js";
import { hueOf, picture } from "./pictures.js";
import { Tiles } from "./tiles.js";
import { did, milliseconds, percent, price, reason, title, when } from "./words.js";

const at = (id) => document.getElementById(id);
const say = (text) => { at("live").textContent = text; };

const shop = await get("/demo/catalogue");
const items = new Map(shop.items.map((item) => [item.item_id, item]));
const tiles = new Tiles(items, (does, item, placement) => press(does, item, placement).catch(complain));
let me = new Shopper(remembered("freshet-shopper", () => guest("you")));
let other = new Shopper(guest("friend"));
const STRENGTHS = [...document.querySelectorAll("#explore input")].map((input) => input.value);
let home = "home";
let shown = null; // the product whose page is open

function guest(name) {
  return `${name}-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
}

function remembered(key, create) {
  const value = sessionStorage.getItem(key) || create();
  sessionStorage.setItem(key, value);
  return value;
}

function complain(error) {
  const notice = at("notice");
  const away = error instanceof TypeError; // what fetch throws when nobody listens
  notice.textContent = away ? "The demo does not answer: is it still running in its terminal?" : error.message;
  notice.hidden = false;
  setTimeout(() => { notice.hidden = true; }, 8000);
}

// -- lists ---------------------------------------------------------------------------------------------------------

const LISTS = {
  "list-home": [() => home, tiles.tile(() => home, true)],
  "list-cart": [() => "cart", tiles.tile(() => "cart", false)],
  "list-coupons": [() => "coupons", tiles.card(() => "coupons", "use", "Use it")],
  "list-ads": [() => "ads", tiles.card(() => "ads", "visit", "Visit")],
  "list-content": [() => "content", tiles.card(() => "content", "read", "Read")],
  "list-shops": [() => "shops", tiles.card(() => "shops", "visit", "Visit")],
  "list-mail": [() => "mail", tiles.card(() => "mail", "open", "")],
};

function linesOf(record, placement) {
  const lists = record?.lists ?? {};
  return (lists[placement] ?? (placement === home ? lists.home : null))?.items ?? [];
}

function draw(id, lines, [fill, freshen], options) {
  const most = Math.max(...lines.map((line) => line.score), 0);
  return arrange(at(id), lines, fill, (line, li) => freshen(line, li, most), options);
}

function render(options) {
  let fresh = 0;
  for (const [id, [placement, how]] of Object.entries(LISTS)) {
    const lines = linesOf(me.record, placement());
    const changed = draw(id, lines, how, options);
    if (id === "list-home") fresh = changed;
    else if (id !== "list-cart") at(id).closest("section").hidden = lines.length === 0;
    watch(id, placement());
  }
  renderCart();
  return fresh;
}

function renderOther(options) {
  draw("list-other", linesOf(other.record, home).slice(0, 6), tiles.slim(), options);
}

// Impressions: what was in view for half a second is told with the next click.
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    clearTimeout(target.timer);
    if (isIntersecting) target.timer = setTimeout(() => me.noticed(target.dataset.id, target.dataset.placement), 500);
  }
}, { threshold: 0.6 });

function watch(id, placement) {
  for (const li of at(id).querySelectorAll("li[data-id]")) {
    if (li.dataset.placement === placement) continue;
    li.dataset.placement = placement;
    watcher.observe(li);
  }
}

// -- what is pressed -----------------------------------------------------------------------------------------------

const TYPES = { open: "click", use: "click", visit: "click", read: "click", cart: "add_to_cart", buy: "purchase", dislike: "dislike" };
const SAYS = { use: "Coupon noted", visit: "Noted", read: "Marked as read" };

async function press(does, item, placement) {
  if (does === "open") openProduct(item);
  if (does === "cart") me.cart.set(item.item_id, (me.cart.get(item.item_id) ?? 0) + 1);
  if (does === "buy") me.cart.delete(item.item_id);
  if (does === "cart" || does === "buy") renderCart();
  if (does !== "open" && shown === item && does !== "cart") at("product").close();
  if (SAYS[does]) say(`${SAYS[does]}: ${title(item)}`);
  at("pulse").dataset.state = "waiting";
  await me.did(TYPES[does], [item], placement);
}

function renderCart() {
  const lines = [...me.cart].map(([item_id, times]) => ({ item_id, times }));
  at("cart-count").textContent = [...me.cart.values()].reduce((sum, times) => sum + times, 0);
  at("cart-empty").hidden = lines.length > 0;
  at("buy-all").disabled = lines.length === 0;
  at("with-cart-title").textContent = lines.length ? "Goes with your cart" : "Small things, while the cart is empty";
  const fill = (line, li) => {
    const item = items.get(line.item_id) ?? { item_id: line.item_id };
    li.append(make("span", { class: "picture" }, picture(item)), make("span", { class: "name", text: title(item) }),
      make("span", { class: "times" }), make("span", { class: "price", text: price(item) }),
      make("button", { type: "button", class: "quiet", "data-do": "remove", "aria-label": `Take ${title(item)} out of the cart`, text: "Remove",
        onclick: () => remove(item).catch(complain) }));
  };
  arrange(at("cart"), lines, fill, (line, li) => { li.querySelector(".times").textContent = line.times > 1 ? `${line.times} ×` : ""; });
}

async function remove(item) {
  me.cart.delete(item.item_id);
  renderCart();
  await me.did("remove_from_cart", [item], "cart");
}

at("buy-all").addEventListener("click", () => {
  const bought = [...me.cart.keys()].map((id) => items.get(id)).filter(Boolean);
  me.cart.clear();
  renderCart();
  at("cart-title").closest("section").querySelector("button:not([disabled])")?.focus({ preventScroll: true });
  me.did("purchase", bought, "cart").catch(complain);
});

// -- a product's page ----------------------------------------------------------------------------------------------

const BESIDE = tiles.tile(() => "product", false);

function openProduct(item) {
  shown = item;
  const dialog = at("product");
  at("product-picture").replaceChildren(picture(item));
  at("product-title").textContent = title(item);
  at("product-facts").textContent = [item.category, item.brand && title({ title: item.brand }), items.get(item.shop) && title(items.get(item.shop))].filter(Boolean).join(" · ");
  at("product-price").textContent = price(item);
  const button = (does, text, className) => make("button", { type: "button", class: className, text, "data-do": does, onclick: () => tiles.press(does, item, "product") });
  at("product-buttons").replaceChildren(button("cart", "Add to cart", "strong"), button("buy", "Buy", ""), button("dislike", "Not for me", "quiet"));
  at("product-why").replaceChildren(make("li", { text: "…" }));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  at("product-title").focus();
  tellProduct(item).catch(complain);
}

/** What goes beside it, and what its score owes to what was done. Asked for, not looked up in a list. */
async function tellProduct(item) {
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
    const what = one.item_id ? title(items.get(one.item_id) ?? { item_id: one.item_id }) : "something not sold any more";
    const part = Math.round((100 * one.share) / Math.max(line.score, 1e-9));
    return make("li", {}, make("strong", { text: `${part >= 0 ? "" : "−"}${Math.abs(part)}%` }), ` you ${did(one.type)} ${what}`);
  });
}

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
  });
  dialog.addEventListener("close", () => {
    shown = null;
    // What was in focus before may have left its list meanwhile.
    setTimeout(() => { if (document.activeElement === document.body) at("home").focus({ preventScroll: true }); });
  });
}

// -- what comes back -----------------------------------------------------------------------------------------------

function welcome(shopper) {
  const mine = () => shopper === me;
  shopper.follow(
    (record, tookMs) => {
      if (!mine()) {
        renderOther();
        tellOther(shopper).catch(() => {});
        return;
      }
      const fresh = render();
      if (tookMs !== null) {
        at("pulse-ms").textContent = milliseconds(tookMs);
        at("pulse").dataset.state = "beat";
        setTimeout(() => { at("pulse").dataset.state = "still"; }, 500);
        const first = linesOf(record, home)[0];
        const top = first ? ` First: ${title(items.get(first.item_id))}.` : "";
        say(`Lists rearranged after ${milliseconds(tookMs)} milliseconds, ${fresh} new for you.${top}`);
      }
      tellInterest().catch(() => {});
    },
    () => {
      shopper.record = null;
      shopper.cart.clear();
      greet(shopper).catch(complain);
    },
  );
}

/**
 * Lists for somebody of whom nothing is known: asked for, since only events make lists by themselves. The home
 * list comes first; of a second shopper no others are shown.
 */
async function greet(shopper) {
  const lists = {};
  const show = () => {
    if (shopper.record !== null && !shopper.record.asked) return false; // an event was sooner
    shopper.record = { lists, asked: true };
    if (shopper === me) render();
    else renderOther();
    return true;
  };
  const ask = async (placement) => { lists[placement] = await shopper.ask("list", { placement }); };
  await ask(shop.placements.includes(home) ? home : shop.placements[0]);
  if (!show()) return;
  const shown = shopper === me ? shop.placements : shop.placements.filter((placement) => STRENGTHS.includes(placement));
  await Promise.all(shown.filter((placement) => !(placement in lists)).map(ask));
  if (show() && shopper === me) await tellInterest();
}

/** The cart as the state has it, so that a page that is loaded again shows what Freshet remembers. */
async function recall(shopper) {
  const { state } = await shopper.ask("state");
  const settled = new Set();
  for (const { type, item_id: id } of state?.interactions ?? []) {
    if (!["add_to_cart", "remove_from_cart", "purchase"].includes(type) || !id || settled.has(id)) continue;
    settled.add(id);
    if (type === "add_to_cart" && items.has(id)) shopper.cart.set(id, 1);
  }
}

async function enter(shopper) {
  welcome(shopper);
  await recall(shopper);
  await new Promise((resume) => setTimeout(resume, 150)); // lists that are there come at once
  if (shopper.record === null || shopper.record.asked) await greet(shopper);
  else if (shopper === me) renderCart();
}

/** Interest by category: what a coupon of each would score, whose vector is the category's. */
async function tellInterest() {
  const shopper = me;
  const { items: ranked } = await shopper.ask("rank", { placement: "coupons", candidates: shop.categories.map((one) => one.coupon) });
  if (shopper !== me) return;
  const score = new Map(ranked.map((line) => [line.item_id, line.score]));
  const most = Math.max(...score.values(), 1e-9);
  const least = Math.min(...score.values());
  const list = at("interest");
  if (!list.children.length) {
    list.append(...shop.categories.map(({ name }) => {
      const fill = make("span", { class: "fill" });
      fill.style.backgroundColor = `hsl(${hueOf(name)} 48% 52%)`;
      return make("li", {}, make("span", { class: "name", text: name }), make("span", { class: "bar" }, fill), make("span", { class: "number" }));
    }));
  }
  shop.categories.forEach(({ coupon }, i) => {
    const value = score.get(coupon) ?? 0;
    const li = list.children[i];
    const flat = most - least < 1e-7;
    li.querySelector(".fill").style.width = `${flat ? 4 : Math.max(2, (100 * value) / most)}%`;
    li.querySelector(".number").textContent = percent(value);
    li.classList.toggle("top", !flat && value === most);
  });
}

async function tellOther(shopper) {
  const { state } = await shopper.ask("state");
  if (shopper !== other) return;
  const [last] = state?.interactions ?? [];
  const what = last?.item_id && title(items.get(last.item_id) ?? { item_id: last.item_id });
  at("other-did").textContent = last ? `${did(last.type)} ${what ?? ""}` : "Has done nothing yet.";
}

// -- switches ------------------------------------------------------------------------------------------------------

at("explore").addEventListener("change", (event) => {
  home = event.target.value;
  render();
  renderOther();
});

function introduce() {
  at("me").textContent = me.userId;
  const select = at("other");
  const known = [...select.options].map((option) => option.value);
  const guests = [me, other].map((one) => one.userId).filter((id) => !shop.shoppers.includes(id));
  const wanted = [...new Set([...guests.filter((id) => id !== me.userId), ...shop.shoppers.filter((id) => id !== me.userId)])];
  if (known.join() !== wanted.join()) {
    select.replaceChildren(...wanted.map((id) => make("option", { value: id, text: shop.shoppers.includes(id) ? `Customer ${id}, as in the log` : `${id}, a guest` })));
  }
  select.value = other.userId;
}

at("other").addEventListener("change", (event) => {
  other.leave();
  other = new Shopper(event.target.value);
  at("list-other").replaceChildren();
  at("other-did").textContent = "\u00a0";
  enter(other).then(() => tellOther(other)).catch(complain);
  introduce();
});

at("swap").addEventListener("click", () => {
  [me, other] = [other, me];
  sessionStorage.setItem("freshet-shopper", me.userId);
  introduce();
  render({ move: false });
  renderOther({ move: false });
  tellInterest().catch(complain);
  tellOther(other).catch(complain);
  say(`You shop as ${me.userId} now.`);
  if (me.record?.asked) greet(me).catch(complain);
});

at("forget").addEventListener("click", async () => {
  at("forget").disabled = true;
  try {
    const receipt = await me.forget();
    tellReceipt(receipt);
  } catch (error) {
    complain(error);
  } finally {
    at("forget").disabled = false;
  }
});

function tellReceipt(receipt) {
  const done = receipt.status !== "pending";
  at("receipt-title").textContent = done ? "You are forgotten" : "Forgetting is on its way";
  at("receipt-words").textContent = done
    ? "State, lists and changelog hold nothing of you any more. This is the receipt that Freshet published; of your id it keeps a salted hash."
    : "The erasure is taken. Its receipt will stand on the topic of receipts.";
  const told = done
    ? [
        ["Salted hash", receipt.user_hash],
        ["Done", when(receipt.completed_ms)],
        ["Removed from", receipt.removed.join(", ")],
        ...Object.entries(receipt.copies_until_ms).map(([topic, ms]) => [`Copies on ${topic} until`, when(ms)]),
      ]
    : [];
  at("receipt-fields").replaceChildren(...told.map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", { text: value }))));
  at("receipt").showModal();
  at("receipt-title").focus();
}

// -- the engine ----------------------------------------------------------------------------------------------------

const recent = new Recent();

async function tellEngine() {
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

// A browser has few connections to one host for all its tabs; a tab that nobody sees needs none.
document.addEventListener("visibilitychange", () => {
  for (const shopper of [me, other]) {
    shopper.leave();
    if (!document.hidden) welcome(shopper);
  }
});

introduce();
await Promise.all([enter(me), enter(other)]).catch(complain);
document.body.dataset.ready = "true";
let asking = false;
setInterval(() => {
  if (asking || document.hidden) return;
  asking = true;
  tellEngine().catch(() => {}).finally(() => { asking = false; });
}, 1000);
