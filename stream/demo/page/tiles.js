// What one line of a list looks like: product tiles, cards of other kinds, short rows. Says what was pressed; does
// nothing by itself.

import { make } from "./dom.js";
import { percent, price, reason, title } from "./formatting.js";
import { picture } from "./pictures.js";

/**
 * How lines of the catalogue's items are drawn.
 *
 * `items`: Map of item_id to item. A button's `press` event bubbles: `detail` is { does, item, on }, where
 * `on` is { placement, list_name } of the list that it is on.
 */
export class Tiles {
  constructor(items) {
    this.items = items;
  }

  item(line) {
    return this.items.get(line.item_id) || { item_id: line.item_id, kind: "product" };
  }

  /** `placement()` tells which list it is on; without a `label` its text is its name. */
  button(does, item, placement, { label, text, class: className = "" }, ...children) {
    return make("button", {
      type: "button", class: className, "data-do": does, "aria-label": label, text,
      onclick: ({ currentTarget }) => {
        const { list } = currentTarget.closest("li")?.dataset ?? {};
        const detail = { does, item, on: { placement: placement(), ...(list && { list_name: list }) } };
        currentTarget.dispatchEvent(new CustomEvent("press", { bubbles: true, detail }));
      },
    }, ...children);
  }

  /** A product with its picture, buttons, reason and score. */
  tile(placement, large) {
    const draw = (line, li) => {
      const item = this.item(line);
      const name = title(item);
      li.className = large ? "tile" : "tile little";
      const open = this.button("open", item, placement, { class: "open" },
        make("span", { class: "picture" }, picture(item)),
        make("span", { class: "name", text: name }));
      const facts = make("p", { class: "facts" }, make("span", { class: "price", text: price(item) }));
      if (item.tags?.includes("sale")) facts.append(make("span", { class: "tag", text: "Sale" }));
      const buttons = make("div", { class: "buttons" },
        this.button("cart", item, placement, { label: `Add ${name} to the cart`, text: "Add", class: "strong" }));
      if (large) {
        buttons.append(
          this.button("buy", item, placement, { label: `Buy ${name} now`, text: "Buy" }),
          this.button("dislike", item, placement, { label: `Not for me: ${name}`, text: "✕", class: "quiet square" }));
      }
      li.append(open, facts, make("p", { class: "reason" }), this.meter(), buttons, make("span", { class: "moved", "aria-hidden": "true" }));
    };
    return [draw, (line, li, most) => this.freshen(line, li, most)];
  }

  /** A coupon, ad, article or shop, or a line of the letter: one button, one event. */
  card(placement, does, verb) {
    const draw = (line, li) => {
      const item = this.item(line);
      const name = title(item);
      li.className = `card ${item.kind}`;
      const button = this.button(does, item, placement, { class: "open" },
        make("span", { class: "picture" }, picture(item)),
        make("span", { class: "name", text: name }),
        make("span", { class: "verb", text: item.kind === "product" ? price(item) : verb }));
      li.append(button, make("p", { class: "reason" }), make("span", { class: "moved", "aria-hidden": "true" }));
    };
    return [draw, (line, li, most) => this.freshen(line, li, most)];
  }

  /** A line of the second shopper's list. */
  slim() {
    const draw = (line, li) => {
      const item = this.item(line);
      li.append(make("span", { class: "picture" }, picture(item)), make("span", { class: "name", text: title(item) }),
        make("span", { class: "reason" }), make("span", { class: "moved", "aria-hidden": "true" }));
    };
    return [draw, (line, li, most) => this.freshen(line, li, most)];
  }

  meter() {
    return make("p", { class: "score" },
      make("span", { class: "bar", "aria-hidden": "true" }, make("span", { class: "fill" })),
      make("span", { class: "number", title: "How likely the model holds it that you turn to it next" }));
  }

  freshen(line, li, most) {
    const why = li.querySelector(".reason");
    why.textContent = reason(line.reason, this.items);
    li.classList.toggle("explored", line.explored);
    li.classList.toggle("pinned", line.reason.code === "pinned");
    why.title = line.explored ? `Explored: drawn for this place with probability ${percent(line.propensity)}` : "";
    const fill = li.querySelector(".fill");
    if (fill) {
      fill.style.width = `${Math.max(2, Math.min(100, (100 * line.score) / (most || 1)))}%`;
      li.querySelector(".number").textContent = percent(line.score);
    }
  }
}
