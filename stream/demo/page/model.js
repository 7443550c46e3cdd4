// The switch of the model. A worker serves one bundle, so another one is started with the other: that takes seconds.

import { post } from "./api.js";
import { greet } from "./arrivals.js";
import { at, complain, make } from "./dom.js";
import { model } from "./formatting.js";
import { here, shop } from "./shop.js";

let switching = 0; // switches of this page that are not answered yet
let last = null; // the bundle that served last
let switched = false; // since the page was loaded

at("model").hidden = shop.models.length < 2;
at("model").append(...shop.models.map((name) => make("label", {},
  make("input", { type: "radio", name: "model", value: name }), make("span", { text: name }))));

at("model").addEventListener("change", async ({ target }) => {
  show({ ...here.serving, model: target.value, ready: false });
  switching += 1;
  try {
    const { serving } = await post("/demo/model", { model: target.value });
    if (switching === 1) show(serving);
  } catch (error) {
    complain(error);
  } finally {
    switching -= 1;
  }
});

/** Take in what the worker serves; where this page has switched, its own answer counts. */
export function served(serving) {
  if (switching === 0) show(serving);
}

function show(serving) {
  here.serving = serving;
  for (const input of at("model").querySelectorAll("input")) input.checked = input.value === serving.model;
  at("model").setAttribute("aria-busy", String(!serving.ready));
  const another = serving.ready && last !== null && last !== serving.bundle_id;
  if (serving.ready) last = serving.bundle_id;
  switched ||= another;
  const name = model(serving.model);
  if (!serving.ready) tell(`Starting a worker with ${name}; what you do meanwhile is kept.`);
  else tell(`Ranked by ${name}.${switched ? " What it knows of you is rebuilt from what you did last." : ""}`);
  if (another) for (const shopper of [here.me, here.other]) greet(shopper).catch(complain);
}

/** What does not change is not said again. */
function tell(words) {
  if (at("model-words").textContent !== words) at("model-words").textContent = words;
}
