// The page: who enters, and what is pressed. Each other module has one part of it, told by its first line.

import { enter, welcome } from "./arrivals.js";
import { putIntoCart, takeOutOfCart } from "./cart.js";
import { at, complain, say } from "./dom.js";
import { title } from "./formatting.js";
import { tellOther } from "./insight.js";
import { tellEngine } from "./panel.js";
import { introduce } from "./people.js";
import { leaveProduct, openProduct } from "./product.js";
import { render, renderOther } from "./shelves.js";
import { here } from "./shop.js";

// -- what is pressed -----------------------------------------------------------------------------------------------

const TYPES = { open: "click", use: "click", visit: "click", read: "click", cart: "add_to_cart", buy: "purchase", dislike: "dislike" };
const SAYS = { use: "Coupon noted", visit: "Noted", read: "Marked as read" };

async function press({ does, item, on }) {
  if (does === "open") openProduct(item);
  else if (does === "cart") putIntoCart(item);
  else leaveProduct(item);
  if (does === "buy") takeOutOfCart(item);
  if (SAYS[does]) say(`${SAYS[does]}: ${title(item)}`);
  at("pulse").dataset.state = "waiting";
  await here.me.did(TYPES[does], [item], on);
}

document.addEventListener("press", ({ detail }) => press(detail).catch(complain));

at("explore").addEventListener("change", (event) => {
  here.home = event.target.value;
  render();
  renderOther();
});

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
  });
  dialog.addEventListener("close", () => {
    // What was in focus before may have left its list meanwhile.
    setTimeout(() => { if (document.activeElement === document.body) at("home").focus({ preventScroll: true }); });
  });
}

// -- who is there --------------------------------------------------------------------------------------------------

// A browser has few connections to one host for all its tabs; a tab that nobody sees needs none.
document.addEventListener("visibilitychange", () => {
  for (const shopper of [here.me, here.other]) {
    shopper.leave();
    if (!document.hidden) welcome(shopper);
  }
});

introduce();
await tellEngine().catch(complain);
await Promise.all([enter(here.me), enter(here.other).then(tellOther)]).catch(complain);
document.body.dataset.ready = "true";
let asking = false;
setInterval(() => {
  if (asking || document.hidden) return;
  asking = true;
  tellEngine().catch(() => {}).finally(() => { asking = false; });
}, 1000);
