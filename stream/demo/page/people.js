// Who is who: the shopper, the second one, places swapped, and who is forgotten.

import { Shopper } from "./api.js";
import { enter, greet } from "./arrivals.js";
import { at, complain, make, say } from "./dom.js";
import { when } from "./formatting.js";
import { tellInterest, tellOther } from "./insight.js";
import { render, renderOther } from "./shelves.js";
import { here, remember, shop } from "./shop.js";

export function introduce() {
  const { me, other } = here;
  at("me").textContent = me.userId;
  const select = at("other");
  const offered = [...select.options].map((option) => option.value);
  const guests = [me, other].map((one) => one.userId).filter((id) => !shop.shoppers.includes(id));
  const wanted = [...new Set([...guests.filter((id) => id !== me.userId), ...shop.shoppers.filter((id) => id !== me.userId)])];
  if (offered.join() !== wanted.join()) {
    select.replaceChildren(...wanted.map((id) => make("option", { value: id, text: shop.shoppers.includes(id) ? `Customer ${id}, as in the log` : `${id}, a guest` })));
  }
  select.value = other.userId;
}

at("other").addEventListener("change", (event) => {
  here.other.leave();
  here.other = new Shopper(event.target.value);
  at("list-other").replaceChildren();
  at("other-did").textContent = "\u00a0";
  enter(here.other).then(tellOther).catch(complain);
  introduce();
});

at("swap").addEventListener("click", () => {
  [here.me, here.other] = [here.other, here.me];
  remember(here.me);
  introduce();
  render({ move: false });
  renderOther({ move: false });
  tellInterest().catch(complain);
  tellOther().catch(complain);
  say(`You shop as ${here.me.userId} now.`);
  if (here.me.record?.asked) greet(here.me).catch(complain);
});

at("forget").addEventListener("click", async () => {
  at("forget").disabled = true;
  try {
    tellReceipt(await here.me.forget());
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
        ["Without ids of users", receipt.without_user_ids.join(", ")],
        ...Object.entries(receipt.copies_until_ms).map(([topic, ms]) => [`Copies on ${topic} until`, when(ms)]),
        ...receipt.copies_unknown.map((topic) => [`Copies on ${topic} until`, "nobody knows: its settings are not told"]),
      ]
    : [];
  at("receipt-fields").replaceChildren(...told.map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", { text: value }))));
  at("receipt").showModal();
  at("receipt-title").focus();
}
