// Lists that move: items that stay slide to their new places, those that come fade in, those that go fade out.
// Focus stays on the item it was on, or goes to the one that took its place.

import { make } from "./dom.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const MOVE = { duration: 480, easing: "cubic-bezier(.2,.8,.2,1)" };

/**
 * Make a list hold these lines, in this order.
 *
 * `draw(line, li)` fills an empty <li>; `freshen(line, li)` brings one up to date. Answers how many
 * lines are new. With `move` false nothing moves: another list took this one's place.
 */
export function arrange(list, lines, draw, freshen, { move = true } = {}) {
  const before = new Map([...list.children].map((li) => [li.dataset.id, li]));
  const moves = move && !still.matches && before.size > 0;
  const places = new Map();
  const ranks = new Map([...before.keys()].map((id, at) => [id, at]));
  if (moves) for (const [id, li] of before) places.set(id, li.getBoundingClientRect());
  const focus = focused(list);

  const after = lines.map((line, at) => {
    let li = before.get(line.item_id);
    const known = li !== undefined && move;
    if (li === undefined) {
      li = make("li", { "data-id": line.item_id });
      draw(line, li);
    }
    freshen(line, li);
    li.dataset.moved = !before.size || !move ? "" : !known ? "new" : change(ranks.get(line.item_id) - at);
    return li;
  });
  const kept = new Set(after);
  const gone = moves ? [...before.values()].filter((li) => !kept.has(li)).map((li) => ghost(list, li)) : [];
  list.replaceChildren(...after, ...gone);
  restore(list, focus, after);
  if (moves) for (const li of after) slide(li, places.get(li.dataset.id));
  return lines.filter((line) => !before.has(line.item_id)).length;
}

function change(up) {
  return up === 0 ? "" : up > 0 ? `up ${up}` : `down ${-up}`;
}

function slide(li, from) {
  if (from === undefined) {
    li.animate([{ opacity: 0, transform: "scale(.86)" }, { opacity: 1, transform: "none" }], MOVE);
    return;
  }
  const to = li.getBoundingClientRect();
  const [x, y] = [from.left - to.left, from.top - to.top];
  if (x || y) li.animate([{ transform: `translate(${x}px,${y}px)` }, { transform: "none" }], MOVE);
}

/** What leaves fades where it stood; nobody can reach it any more. */
function ghost(list, li) {
  const [box, at] = [list.getBoundingClientRect(), li.getBoundingClientRect()];
  const left = li.cloneNode(true);
  left.removeAttribute("data-id");
  left.inert = true;
  left.setAttribute("aria-hidden", "true");
  left.className = `${li.className} ghost`;
  left.style.left = `${at.left - box.left + list.scrollLeft}px`;
  left.style.top = `${at.top - box.top + list.scrollTop}px`;
  left.style.width = `${at.width}px`;
  left.style.height = `${at.height}px`;
  const fading = left.animate([{ opacity: 1 }, { opacity: 0, transform: "scale(.8)" }], { ...MOVE, duration: 320, fill: "forwards" });
  fading.finished.finally(() => left.remove());
  return left;
}

function focused(list) {
  const active = document.activeElement;
  if (!active || !list.contains(active)) return null;
  const li = active.closest("li");
  return { id: li.dataset.id, does: active.dataset.do, at: [...list.children].indexOf(li) };
}

function restore(list, focus, after) {
  if (focus === null || after.length === 0) return;
  const li = after.find((one) => one.dataset.id === focus.id) || after[Math.min(focus.at, after.length - 1)];
  const target = li.querySelector(`[data-do="${focus.does}"]`) || li.querySelector("button");
  target?.focus({ preventScroll: true });
}
